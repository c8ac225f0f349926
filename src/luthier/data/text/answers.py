"""The rules of quality for instructions: what an answer must not be. They are ours; each looks at one exchange.

Refusals and stock phrases are known in English, German and Chinese. A rule that a set of rows is about (refusals in
data on safety, templates with blanks) is to be switched off for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ...core.example import Turn
from .document import Document
from .language import letters, probabilities, prose
from .rules import Rule

__all__ = ["INSTRUCTIONS", "Exchange", "exchanges"]


@dataclass(frozen=True)
class Exchange:
    """A learned answer and the prompt before it."""

    prompt: str
    answer: str

    @cached_property
    def said(self) -> Document:
        """The answer, measured."""
        return Document(self.answer)

    @cached_property
    def asked(self) -> Document:
        """The prompt, measured."""
        return Document(self.prompt)


def exchanges(turns: tuple[Turn, ...]) -> Iterator[Exchange]:
    """The learned turns with the last user turn before each; calls of tools are no answers."""
    prompt = ""
    for turn in turns:
        if turn.role == "user":
            prompt = turn.content
        elif turn.trained and not turn.extra.get("tool_calls"):
            yield Exchange(prompt, turn.content)


_REFUSAL = re.compile(
    r"(?:(?:i'?m|i am|we are) (?:very |so |really |truly )?(?:sorry|afraid)|my apologies|i apologi[sz]e)"
    r"\b[^.!?\n]{0,60}\b(?:can(?:no|')?t|can not|unable|not able|won'?t|do(?:n'?t| not) have)\b"
    r"|(?:i (?:can(?:no|')?t|can not|am unable to|'?m unable to|am not able to|'?m not able to|won'?t)"
    r" (?:help|assist|answer|fulfil\w*|comply|provide|do that|create|generate|complete|process))\b"
    r"|as an ai\b[^.!?\n]{0,80}\b(?:can(?:no|')?t|can not|unable|not able|do(?:n'?t| not))\b"
    r"|(?:es )?tut mir leid\b[^.!?\n]{0,60}\b(?:kann|nicht|leider)\b"
    r"|(?:leider )?kann ich (?:dir|ihnen) (?:dabei|das) nicht"
    r"|(?:很)?(?:抱歉|对不起)[^。!?\n]{0,12}(?:无法|不能)|作为(?:一个|一名)?(?:AI|人工智能)[^。\n]{0,30}(?:无法|不能|没有)",
    re.IGNORECASE,
)
_ASKS_REGRET = re.compile(
    r"\b(?:excuse|apolog\w+|regret\w*|declin\w+|reject\w*|refus\w+|e-?mail|letter|reply|replies|entschuldig\w+|absage)\b"
    r"|道歉|借口|拒绝|邮件",
    re.IGNORECASE,
)
_AS_MODEL = re.compile(
    r"\bas an? (?:\w+ )?(?:ai|artificial intelligence|large language|language)\b(?: language)?(?: model| assistant)?\b"
    r"(?=[^.!?\n]{0,60}\b(?:i|my)\b)|\bals (?:ki|künstliche intelligenz|sprachmodell)\b[^.!?\n]{0,30}\bich\b"
    r"|作为(?:一个|一名)?(?:AI|人工智能)(?:语言)?(?:模型|助手)",
    re.IGNORECASE,
)
_ASKS_WHO = re.compile(
    r"\bAI\b|人工智能|\b(?:who|what) (?:are|made|created|developed|built|trained) you\b"
    r"|\byour (?:name|creators?|developers?|identity|makers?)\b|\bare you\b|\bhave a name\b|\byourself\b"
    r"|\bcall you\b|你是谁|你叫|你的名字|介绍(?:一下)?(?:你)?自己",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"\[(?:your|insert|enter|add|name|date|company|recipient|address|placeholder|fill|x{2,})\b[^\]\n]{0,60}\]"
    r"|<(?:your|insert|enter|add|fill)\b[^>\n]{0,60}>|<no ?(?:input|output)>|\blorem ipsum\b|\b(?:todo|tbd)\b:?"
    r"|\byour (?:answer|text|response) (?:goes )?here\b|_{4,}",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"\W*(?:n/?a|none|null|nan|nil|undefined|not available|not applicable|no (?:input|output|answer|response)"
    r"|<?noinput>?|output|answer|response|test|asdf+|x{3,}|keine (?:angabe|antwort)|无|没有)?\W*",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_OPEN_END = re.compile(
    r"(?:[,，、(\[–—]|\b(?:and|or|the|a|an|of|to|with|for|from|by|as|is|are|was|were|that|which|because|their|its|your|my"
    r"|und|oder|der|die|das|ein|eine|mit|von|zu|für|weil|dass))$",
    re.IGNORECASE,
)
_CLOSED = re.compile(r"[.!?…。！？:;)\]}>\"'”’»*_`|\d)%$€£-]$|[^\w\s]$")
_SIGNED = re.compile(
    r"\b(?:yours|sincerely|regards|wishes|love|cheers|thanks|faithfully|respectfully|grüße[nr]?)\b[^.!?]*$|[-–—~]\s*[A-ZÄÖÜ]"
    r"[\w. ]{0,40}$",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"^\s*(?:[-*•+#>|]|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)])")
_ABOUT_LANGUAGE = re.compile(
    r"translat|übersetz|翻译|译成|译为|\blanguages?\b|sprache|\b(?:english|german|french|spanish|chinese|japanese|italian"
    r"|latin|portuguese|russian|korean|hindi|arabic|deutsch|englisch|französisch|spanisch|chinesisch)\b|英语|英文|中文|法语"
    r"|德语|日语|西班牙语|成语|拼音|单词",
    re.IGNORECASE,
)


def _normal(text: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", text.casefold()).split())


def _equals_prompt(exchange: Exchange) -> float:
    """How much of the answer is the prompt, word for word."""
    prompt, answer = _normal(exchange.prompt), _normal(exchange.answer)
    if not prompt or not answer:
        return 0.0
    return len(prompt) / len(answer) if prompt in answer else 0.0


def _is_refusal(exchange: Exchange) -> float:
    """1 where the answer begins with a refusal, and no message of regret was asked for."""
    if _ASKS_REGRET.search(exchange.prompt):
        return 0.0
    return float(bool(_REFUSAL.match(exchange.answer.strip().replace("’", "'"))))


def _speaks_as_model(exchange: Exchange) -> float:
    """1 where the answer excuses itself as a model's, and was not asked who it is."""
    return float(bool(_AS_MODEL.search(exchange.answer)) and not _ASKS_WHO.search(exchange.prompt))


def _filler(exchange: Exchange) -> float:
    """Share of the answer's characters in blanks to be filled in; 1 where it is a stand-in for an answer."""
    answer = exchange.answer.strip()
    if answer and _NOTHING.fullmatch(answer) and any(map(str.isalpha, answer)):
        return 1.0
    return sum(len(match[0]) for match in _FILLER.finditer(answer)) / max(1, len(answer))


def _is_cut_off(exchange: Exchange) -> float:
    """1 where the answer stops in the middle: in code, after a comma, a bracket or a word that leads on, or in prose
    of fifty words or more whose last line alone lacks an end.
    """
    answer = exchange.answer.rstrip()
    if not answer:
        return 0.0
    if len(_FENCE.findall(answer)) % 2:
        return 1.0
    last = answer.rpartition("\n")[2].strip()
    words = last.split()
    if len(words) >= 5 and not _LIST_ITEM.match(last) and _OPEN_END.search(last):
        return 1.0
    if _CLOSED.search(answer) or _LIST_ITEM.match(last) or len(exchange.said.words) < 50 or len(words) < 12:
        return 0.0
    unended = re.split(r"[.!?…。！？][\"'”’)]*\s", last)[-1]
    if len(unended.split()) < 3 or _SIGNED.search(unended):
        return 0.0
    before = [line for line in exchange.said.lines[:-1] if len(line.split()) >= 12]
    return float(all(map(_CLOSED.search, before)) and exchange.said.sentences() >= 2)


def _repeats_itself(exchange: Exchange) -> float:
    """Share of the characters in runs of ten words (of unspaced scripts, twenty) that stood before; of the words alone,
    fifty at least.
    """
    said = Document(prose(exchange.answer))
    return said.characters_in_repeated(10 if said.is_spaced else 20) if len(said.words) >= 50 else 0.0


_SURE = 0.95
_ENOUGH_LETTERS = 60


def _other_language(exchange: Exchange) -> float:
    """1 where prompt and answer are surely in different languages, and the prompt speaks of none."""
    prompt, answer = prose(exchange.prompt), prose(exchange.answer)
    if min(letters(prompt), letters(answer)) < _ENOUGH_LETTERS or _ABOUT_LANGUAGE.search(exchange.prompt):
        return 0.0
    asked, said = probabilities(prompt), probabilities(answer)
    one, other = next(iter(asked)), next(iter(said))
    return float(one != other and asked.get(other, 0.0) <= 1 - _SURE and said.get(one, 0.0) <= 1 - _SURE
                 and min(asked[one], said[other]) >= _SURE)  # fmt: skip


def _answer_words(exchange: Exchange) -> float:
    return float(len(exchange.said.words))


def _prompt_words(exchange: Exchange) -> float:
    return float(len(exchange.asked.words))


def _broken_characters(exchange: Exchange) -> float:
    return (exchange.prompt + exchange.answer).count("\ufffd") / max(1, len(exchange.prompt) + len(exchange.answer))


INSTRUCTIONS: tuple[Rule[Exchange], ...] = (
    Rule("answer_fewest_words", _answer_words, "least", 1),
    Rule("answer_most_words", _answer_words, "most", 8_000),
    Rule("prompt_fewest_words", _prompt_words, "least", 1),
    Rule("prompt_most_words", _prompt_words, "most", 20_000),
    Rule("answer_equals_prompt", _equals_prompt, "most", 0.9),
    Rule("refusal", _is_refusal, "most", 0),
    Rule("speaks_as_model", _speaks_as_model, "most", 0),
    Rule("filler", _filler, "most", 0.3),
    Rule("cut_off", _is_cut_off, "most", 0),
    Rule("repeats_itself", _repeats_itself, "most", 0.3),
    Rule("other_language", _other_language, "most", 0),
    Rule("broken_characters", _broken_characters, "most", 0.001),
)
