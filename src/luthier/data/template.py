"""Chat templates: from turns to one text, with the characters that are learned.

A template that carries generation marks says itself what an assistant wrote. One without marks is rendered prefix by
prefix: what turn i adds to the prompt before it is that turn. Either way the prompt, rendered alone as it will be at
inference, must begin the whole text, and each learned turn must end in a stop token; a template that allows neither is
refused, because a wrong mask trains without complaint.

What a user wrote never becomes a control token: `<|im_end|>` inside a message is encoded as the letters it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.contracts import Bools, Ints
from ..core.errors import DataError, ModelError
from ..core.example import Turn
from ..core.sandbox import limited, refuse_powers, refuse_size
from .shield import Shield

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "Rendered", "plain_template", "template_for"]

Span = tuple[int, int]
Tools = Sequence[Mapping[str, Any]] | None

_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_REMEDY = (
    "set chat_template to a Jinja file with {% generation %} marks around each answer and its end token, or to 'plain'"
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text. `spans`: characters that are learned, each up to and with its stop token.

    `quoted`: characters of messages that spell a control token and must not become one.
    """

    text: str
    spans: tuple[Span, ...] = ()
    quoted: tuple[Span, ...] = ()


class _RewrittenError(Exception):
    """A later turn changes how an earlier one is rendered, so that a prompt is no prefix of the whole."""

    def __init__(self, prompt: str, text: str) -> None:
        at = next(
            (i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), min(len(prompt), len(text))
        )
        self.expected, self.found = prompt[at : at + 40], text[at : at + 40]
        super().__init__(at)


class ChatTemplate:
    """A tokenizer's chat template, checked once when it is made.

    Errors: ModelError where there is no template, it cannot be compiled, or it ends an answer without a stop token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        source = tokenizer.chat_template
        if isinstance(source, dict):
            source = source.get("default")
        if not source:
            raise ModelError(
                "the model has no chat template, and the data are conversations",
                where="chat_template",
                expected="a template that turns messages into text",
                remedy="set chat_template: plain (User: ... Assistant: ...), or to the path of a Jinja file",
            )
        if not tokenizer.is_fast:
            raise ModelError(
                "the model's tokenizer cannot tell which characters a token stands for",
                expected="a fast tokenizer (tokenizer.json), which the masks of conversations need",
                remedy="convert it with transformers' AutoTokenizer and save it beside the weights",
            )
        self.tokenizer = tokenizer
        self.source: str = source
        self._words = frozenset(re.findall(r"\w+", " ".join((source, *tokenizer.all_special_tokens))))
        self.marked = bool(_MARK.search(source))
        added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._control = added | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        longest_first = sorted(self._control, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(token) for token in longest_first) or r"(?!)")
        self._named = dict(tokenizer.special_tokens_map)
        _ = self._closing

    # ---- what others ask -------------------------------------------------------------------------------------------

    @property
    def stop(self) -> tuple[int, ...]:
        """Ids that end an answer: the tokenizer's end token and the one with which this template closes a turn."""
        return tuple(sorted(self._control[token] for token in self._closing))

    def render(self, turns: Sequence[Turn], tools: Tools = None) -> Rendered:
        """The conversation as one text, its trained turns as spans.

        Errors: DataError where the template refuses this conversation; ModelError where no right mask can be made.
        """
        try:
            return self._render(turns, tools)
        except _RewrittenError as change:
            raise ModelError(
                "the chat template renders a prompt differently once its answer is there: a mask would be wrong",
                where=f"chat template, after character {change.args[0]} ({self._shown(change.found)})",
                expected=f"{self._shown(change.expected)}, as the prompt has it at inference",
                remedy=_REMEDY,
            ) from None

    def conversations(self, turns: Sequence[Turn], tools: Tools = None) -> list[tuple[tuple[Turn, ...], Rendered]]:
        """The conversation, or one for each trained turn where the template rewrites earlier turns.

        Templates that remove reasoning from earlier answers make the second case: each answer is then learned after the
        very prompt that it will see at inference. Errors: as `render`.
        """
        try:
            return [(tuple(turns), self._render(turns, tools))]
        except _RewrittenError:
            pass
        single = []
        for last, turn in enumerate(turns):
            if turn.trained:
                alone = (*(replace(earlier, train=False) for earlier in turns[:last]), turn)
                single.append((alone, self.render(alone, tools)))
        return single

    def prompt(self, turns: Sequence[Turn], tools: Tools = None) -> list[int]:
        """Token ids of the conversation with the header of the answer that is to come. Errors: DataError."""
        shield = Shield(self._pattern, turns, tools)
        with limited():
            text = self._text(shield.messages, shield.tools, prompt=True)
        ids, _ = self.encode(Rendered(shield.restore(text), (), shield.quoted(text)))
        found: list[int] = ids.tolist()
        return found

    def encode(self, rendered: Rendered) -> tuple[Ints, Bools]:
        """Token ids [L] and which of them are learned [L]: those wholly inside a span (never the first of all).

        Where a header's last space would be joined to the answer's first word, the text is cut there, as inference
        cuts it. Errors: ModelError where the tokenizer cannot be cut at that place.
        """
        if rendered.quoted:
            ids, begins, ends = self._pieces(rendered, ())
        else:
            ids, begins, ends = self.tokens(rendered.text)
        if any(_straddled(rendered.text, start, begins, ends) for start, _ in rendered.spans):
            whole = ids
            ids, begins, ends = self._pieces(rendered, [start for start, _ in rendered.spans])
            if self.tokenizer.decode(ids) != self.tokenizer.decode(whole):
                raise ModelError(
                    "the tokenizer joins the end of the chat template's header to the answer's first word",
                    where="chat template",
                    expected="a header that ends in a line break or a control token, not in a space",
                    remedy=_REMEDY,
                )
        supervised = np.zeros(len(ids), dtype=np.bool_)
        for start, end in rendered.spans:
            inside = np.flatnonzero((begins >= start) & (ends <= end))
            if len(inside):
                supervised[inside[0] : inside[-1] + 1] = True
        supervised[:1] = False
        return ids, supervised

    # ---- text ------------------------------------------------------------------------------------------------------

    @cached_property
    def _closing(self) -> frozenset[str]:
        """Texts of the tokens that may close an answer."""
        closing = {self.tokenizer.eos_token} if self.tokenizer.eos_token else set()
        refuse_powers(self.source)
        try:
            with limited():
                text = self._text([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], None)
        except DataError:  # a template that insists on a system turn or on tools is judged by the data's own turns
            return frozenset(closing)
        last = self._ends_in_control(text)
        if last is None:
            raise ModelError(
                f"the chat template ends an answer without a stop token (it ends in {self._shown(text[-20:])})",
                where="chat template",
                expected="an end token after every answer, the last one too; without it the model never learns to stop",
                remedy=_REMEDY,
            )
        return frozenset(closing | {last})

    def _ends_in_control(self, text: str) -> str | None:
        stripped = text.rstrip()
        found = [token for token in self._control if stripped.endswith(token)]
        return max(found, key=len, default=None)

    def _text(self, messages: Any, tools: Any, *, prompt: bool = False) -> str:
        return self._marked_text(messages, tools, prompt=prompt, marks=False)[0]

    def _marked_text(self, messages: Any, tools: Any, *, prompt: bool = False, marks: bool) -> tuple[str, list[Span]]:
        from jinja2 import TemplateError, TemplateSyntaxError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            texts, spans = render_jinja_template(
                [messages],
                tools=tools,
                chat_template=self.source,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=prompt,
                **self._named,
            )
        except TemplateSyntaxError as error:
            raise ModelError(
                f"the chat template cannot be read: {error.message}",
                where=f"chat template, line {error.lineno}",
                expected="a Jinja template",
                remedy="mend that line, or set chat_template: plain",
            ) from error
        except (
            TemplateError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise DataError(
                f"the chat template refuses the conversation: {error}",
                expected="turns in an order and with roles that the model's template knows",
                remedy="change the rows, or set chat_template to one that accepts them",
            ) from error
        refuse_size(texts[0])
        return texts[0], (spans[0] if marks else [])

    def _render(self, turns: Sequence[Turn], tools: Tools) -> Rendered:
        with limited():
            return self._rendered(turns, tools)

    def _rendered(self, turns: Sequence[Turn], tools: Tools) -> Rendered:
        shield = Shield(self._pattern, turns, tools)
        trained = [index for index, turn in enumerate(turns) if turn.trained]
        spans = None
        if self.marked and all(turns[index].role == "assistant" for index in trained):
            text, marks = self._marked_text(shield.messages, shield.tools, marks=True)
            written = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
            if len(marks) == len(written):
                of = dict(zip(written, marks, strict=True))
                spans = [self._marked_span(text, of[index], shield, index) for index in trained]
        else:
            text = self._text(shield.messages, shield.tools)
        if spans is None:
            spans = [self._prefix_span(text, shield, index, turns[index]) for index in trained]
        return Rendered(shield.restore(text), tuple(spans), shield.quoted(text))

    def _before(self, text: str, shield: Shield, index: int, *, header: bool) -> int:
        """The length of what comes before turn `index`; with `header`, of the prompt that inference will give."""
        if index == 0 and not header:
            return 0
        prompt = self._text(shield.messages[:index], shield.tools, prompt=header)
        if not text.startswith(prompt):
            raise _RewrittenError(prompt, text)
        return len(prompt)

    def _marked_span(self, text: str, mark: Span, shield: Shield, index: int) -> Span:
        """The marked characters, the end token taken in where the mark leaves it outside."""
        if index:
            self._before(text, shield, index, header=True)
        start, end = mark
        inner = text[start:end].rstrip()
        if self._ends_in_control(inner) is not None:
            return start, start + len(inner)
        after = self._pattern.match(text, end)
        if after and after.group() in self._closing:
            return start, after.end()
        raise self._unstopped(text[max(start, end - 20) : end + 20])

    def _prefix_span(self, text: str, shield: Shield, index: int, turn: Turn) -> Span:
        """What turn `index` adds to the prompt before it, up to its stop token."""
        until = self._text(shield.messages[: index + 1], shield.tools)
        if not text.startswith(until):
            raise _RewrittenError(until, text)
        start = self._before(text, shield, index, header=turn.role == "assistant")
        end = len(until.rstrip())
        if turn.role != "assistant":  # inference gives no header for other roles: only what was said is learned
            start = max(start, text.find(str(shield.messages[index]["content"]).strip(), start, end))
        if end <= start or self._ends_in_control(text[start:end]) is None:
            raise self._unstopped(until[-20:])
        return start, end

    def _unstopped(self, shown: str) -> ModelError:
        return ModelError(
            f"a learned turn does not end in a stop token (near {self._shown(shown)})",
            where="chat template",
            expected="an end token of the tokenizer right after every answer: " + ", ".join(sorted(self._closing)),
            remedy=_REMEDY,
        )

    def _shown(self, text: str) -> str:
        """Rendered text for a message: the template's own words, without those that a row brought."""
        return repr(re.sub(r"\w+", lambda word: word[0] if word[0] in self._words else "…", text))

    # ---- tokens ----------------------------------------------------------------------------------------------------

    def tokens(self, text: str, *, letters: bool = False) -> tuple[Ints, Ints, Ints]:
        """Ids and the characters [begin, end) of each. letters: control tokens are spelled out, not recognized."""
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            split_special_tokens=letters,
            verbose=False,
        )
        offsets = np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        return np.asarray(encoded["input_ids"], dtype=np.int64), offsets[:, 0], offsets[:, 1]

    def _pieces(self, rendered: Rendered, cuts: Sequence[int]) -> tuple[Ints, Ints, Ints]:
        """As `tokens`, piece by piece between the real control tokens and at `cuts`; what is quoted stays letters.

        A tokenizer splits at control tokens before anything else, so the pieces are those of the whole text.
        """
        text = rendered.text
        typed = {start + at for start, end in rendered.quoted for at in range(end - start)}
        real = [match for match in self._pattern.finditer(text) if match.start() not in typed]
        bounds = sorted({0, len(text), *cuts, *(at for match in real for at in match.span())})
        known = {match.start(): self._control[match.group()] for match in real}
        parts = []
        for begin, end in pairwise(bounds):
            if begin in known:
                parts.append((np.array([known[begin]]), np.array([begin]), np.array([end])))
            else:
                ids, begins, ends = self.tokens(text[begin:end], letters=True)
                parts.append((ids, begins + begin, ends + begin))
        ids, begins, ends = (np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True))
        return ids, begins, ends


def _straddled(text: str, start: int, begins: Ints, ends: Ints) -> bool:
    """Whether a token lies on both sides of `start`, or may: some tokenizers leave spaces out of the offsets."""
    if start and text[start - 1] in " \t":
        return not bool(np.any(ends == start))
    return bool(np.any((begins < start) & (ends > start)))


def plain_template(begin: str = "") -> str:
    """A Jinja template with generation marks that needs no new tokens: "User: ...", "Assistant: ...", end token.

    The header ends before the space, so that the answer's first word keeps the space that its token carries.
    `begin`: Jinja text that comes first; "{{ bos_token }}" for tokenizers that begin texts with a token.
    """
    return (
        begin + "{%- for message in messages %}"
        "{%- if message['role'] == 'assistant' %}{{- 'Assistant:' }}"
        "{%- generation %}{{- ' ' + message['content'] + eos_token }}{%- endgeneration %}{{- '\\n' }}"
        "{%- else %}{{- message['role'] | capitalize + ': ' + message['content'] + '\\n' }}{%- endif %}"
        "{%- endfor %}"
        "{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}"
    )


def template_for(tokenizer: PreTrainedTokenizerBase, chat_template: str | None = None) -> ChatTemplate:
    """The chat template to train with: 'plain', a Jinja file's path, or None for the tokenizer's own.

    What is chosen becomes the tokenizer's own, so that it is saved with the weights. Errors: ModelError.
    """
    if chat_template == "plain":
        if tokenizer.eos_token is None:
            raise ModelError(
                "the plain chat template closes answers with the end token, and the tokenizer has none",
                where="chat_template",
                expected="a tokenizer with an eos_token",
                remedy="set eos_token in tokenizer_config.json to the token that ends a text",
            )
        first = tokenizer("a", verbose=False)["input_ids"][:1]
        adds = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
        tokenizer.chat_template = plain_template("{{- bos_token }}" if adds else "")
    elif chat_template is not None:
        path = Path(chat_template)
        if not path.is_file():
            raise ModelError(
                f"there is no file '{chat_template}'",
                where="chat_template",
                expected="'plain', or the path of a Jinja file",
                remedy="give the path from the folder in which the command runs",
            )
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    return ChatTemplate(tokenizer)
