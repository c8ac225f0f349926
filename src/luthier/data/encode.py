"""From examples to rows of token ids: conversations, documents and labeled texts, within a length limit.

Whatever does not fit is shortened where nothing is learned, or left out, and written down either way; an answer's end
is never cut. Text that spells a control token is encoded as letters. Arrays are numpy's: nothing here needs torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.contracts import Bools, Encoder, Ints, Objective, Row
from ..core.errors import DataError, Problem
from ..core.example import Example, Turn
from .answers import answer_rows
from .encode_log import EncodeLog, Truncated
from .parts import prompt_turns, text_of, tokens_of, tools_of, turns_of
from .pieces import by_pieces
from .prompted import answered_rows, prompt_ids
from .template import ChatTemplate, Rendered, template_for
from .turns import SYSTEM, oldest_exchange
from .windows import run_rows, word_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["EncodeLog", "Encoding", "Truncated", "encode_all"]

Overlong = Literal["trim_prompt", "drop", "error"]
Turns = tuple[Turn, ...]
Encoded = TypeVar("Encoded")
_TOGETHER = 2**17  # characters of text that the tokenizer is given at once
_IDS_ALONE: dict[str, bool] = {"return_attention_mask": False, "return_token_type_ids": False}


class Encoding:
    """Encodes examples with a tokenizer, its chat template and a length limit (contracts.Encoder).

    max_length: tokens a row may have. overlong: "trim_prompt" lets the oldest exchanges go, then the start of what the
    last prompt says; "drop" leaves such rows out; "error" stops. facts: what the objective surveyed.
    chat_template: as in the recipe; it becomes the tokenizer's own. beside: as in the protocol. Errors: ModelError for
    a template that cannot be used, when the first conversation (or the given template) needs it; DataError for rows.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        overlong: Overlong = "trim_prompt",
        facts: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
    ) -> None:
        if max_length < 2:
            raise ValueError(f"max_length {max_length} leaves no token to predict")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.overlong = overlong
        self.facts: Mapping[str, Any] = facts or {}
        self.log = EncodeLog()
        self.beside: Mapping[str, Encoder] = {}
        self._known: dict[str, list[int]] = {}
        self._batch = by_pieces(tokenizer, self._tokenized)
        if chat_template is not None:
            self.template = template_for(tokenizer, chat_template)

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template; made when first needed, since documents and labeled texts need none."""
        return template_for(self.tokenizer)

    @property
    def stop(self) -> tuple[int, ...]:
        """Ids at which generation stops: the end token, and what closes a turn where there is a chat template."""
        if self.tokenizer.chat_template:
            return self.template.stop
        end = self.tokenizer.eos_token_id
        return () if end is None else (end,)

    # ---- rows ------------------------------------------------------------------------------------------------------

    def conversation(self, example: Example) -> list[Row]:
        """One row, its trained turns supervised, each to its stop token; turns after the last of them are left out.

        Several rows ("id#1", "id#2") where the template rewrites earlier turns: one for each trained turn.
        """
        turns, tools = turns_of(example), tools_of(example)
        trained = [index for index, turn in enumerate(turns) if turn.trained]
        if not trained:
            self.log.untrained[example.id] = "no turn of it is to be learned"
            return []
        try:
            found = self.template.conversations(turns[: trained[-1] + 1], tools)
        except DataError as error:
            self.log.dropped[example.id] = error.problems[0].found
            return []
        rows = []
        for number, (said, rendered) in enumerate(found, 1):
            name = example.id if len(found) == 1 else f"{example.id}#{number}"
            encoded = self._fitted(example, name, said, tools, rendered)
            if encoded is not None:
                rows.append(Row(name, *encoded, example.weight, example.groups, repeat=example.repeat))
        return rows

    def document(self, example: Example) -> list[Row]:
        """The text from its begin token (where the tokenizer adds one) to its end token, every token but the first
        supervised once. A longer text becomes windows "id#1", "id#2", which overlap by one token.
        """
        begin, end = self._document_frame
        ids = np.array([*begin, *self._letters(text_of(example)), *end], dtype=np.int64)
        if len(ids) < 2:
            self.log.untrained[example.id] = "the text is too short to predict anything in it"
            return []
        stride = self.max_length - 1
        windows = [ids[start : start + self.max_length] for start in range(0, len(ids) - 1, stride)]
        rows = []
        for number, part in enumerate(windows, 1):
            name = example.id if len(windows) == 1 else f"{example.id}#{number}"
            rows.append(Row(name, part, np.arange(len(part)) > 0, example.weight, example.groups, {}, example.repeat))
        return rows

    def sequence(self, example: Example, **fields: NDArray[Any]) -> list[Row]:
        """The text (or all texts of the example) with the tokenizer's special tokens, nothing supervised; a longer one
        is cut at its end, the closing special token kept.
        """
        begin, end = self._frame
        body = self._letters(_whole_text(example))
        room = self.max_length - len(begin) - len(end)
        if len(body) > room:
            before = len(begin) + len(body) + len(end)
            if not self.may_shorten(example, example.id, before):
                return []
            self.log.truncated[example.id] = Truncated(before, self.max_length, "the end of the text")
            body = body[: max(room, 0)]
        ids = np.array([*begin, *body, *end], dtype=np.int64)
        if not len(body):
            self.log.dropped[example.id] = "there is no text in it"
            return []
        no = np.zeros(len(ids), dtype=np.bool_)
        return [Row(example.id, ids, no, example.weight, example.groups, fields, example.repeat)]

    def windows(self, example: Example) -> list[Row]:
        """The text (or all texts of the example) in runs of even length, "id#1", "id#2", each between the tokenizer's
        special tokens; nothing supervised, and each token that is not special its own target.
        """
        rows = run_rows(example, self._letters(_whole_text(example)), self._frame, self.max_length)
        if not rows:
            self.log.dropped[example.id] = "there is no text in it"
        return rows

    def words(self, example: Example, targets: Sequence[int]) -> list[Row]:
        """The words of a tagged example, the first token of each supervised with its target; a longer one in windows
        "id#1", "id#2" that share context, each word supervised in one of them.
        """
        words, _ = tokens_of(example)
        return word_rows(example, words, targets, self.tokenizer, self._frame, self.max_length)

    def answers(self, example: Example, names: Sequence[str]) -> list[Row]:
        """One row that begins with the prompt and has a branch for each of the named parts, which answer it."""
        return answer_rows(example, names, self)

    def answered(self, example: Example) -> list[Row]:
        """One row that begins with the prompt and has one branch, the answer, each between the tokenizer's own special
        tokens: for a model that reads the one and writes the other. Either may have max_length tokens.
        """
        return answered_rows(example, self, self._letters, self._document_frame)

    # ---- generation ------------------------------------------------------------------------------------------------

    def prompt(self, example: Example, *, reserve: int = 0) -> list[int]:
        """Token ids to generate from: what comes before the answer (parts.prompt_turns) and its header, or the text.

        `reserve`: tokens of max_length kept free for the answer; a longer prompt is shortened as in training.
        """
        turns, tools = prompt_turns(example), tools_of(example)
        if not turns and "messages" not in example.parts:
            return [*self._frame[0], *self._letters(text_of(example))]
        said = tuple(replace(turn, train=False) for turn in turns)
        ids = self.template.prompt(said, tools)
        limit = self.max_length - reserve
        if len(ids) > limit:

            def encode(kept: Turns) -> tuple[int, list[int]]:
                kept_ids = self.template.prompt(kept, tools)
                return len(kept_ids), kept_ids

            shortened = self._shorten(said, limit, len(ids), encode)
            if shortened is not None:
                before = len(ids)
                _, ids, cut = shortened
                self.log.prompts[example.id] = Truncated(before, len(ids), cut)
        return ids

    def prompt_to_read(self, example: Example) -> list[int]:
        """Token ids that an encoder-decoder reads before it answers, shortened as in training; at least one."""
        ids, before = prompt_ids(example, self, self._letters, self._document_frame)
        if len(ids) < before:
            self.log.prompts[example.id] = Truncated(before, len(ids), "the end of the prompt")
        return ids or [self.tokenizer.pad_token_id or 0]

    # ---- length ----------------------------------------------------------------------------------------------------

    def _fitted(
        self, example: Example, name: str, turns: Turns, tools: Any, rendered: Rendered
    ) -> tuple[Ints, Bools] | None:
        """Ids and mask of a conversation within the limit, or None, with the reason in the log."""
        ids, supervised = self.template.encode(rendered)
        if len(ids) > self.max_length:

            def encode(kept: Turns) -> tuple[int, tuple[Ints, Bools]]:
                ids, supervised = self.template.encode(self.template.render(kept, tools))
                return len(ids), (ids, supervised)

            shortened = self.shortened(example, name, turns, len(ids), encode)
            if shortened is None:
                return None
            ids, supervised = shortened
        if not supervised.any():
            self.log.untrained[name] = "no token of it is to be learned"
            return None
        return ids, supervised

    def shortened(
        self, example: Example, name: str, turns: Turns, tokens: int, encode: Callable[[Turns], tuple[int, Encoded]]
    ) -> Encoded | None:
        """The turns of a row that has too many `tokens`, encoded within the limit; None where the row is left out.
        The log says so either way. Errors: DataError where the phase stops at such rows.
        """
        if not self.may_shorten(example, name, tokens):
            return None
        try:
            found = self._shorten(turns, self.max_length, tokens, encode)
        except DataError as error:
            self.log.dropped[name] = error.problems[0].found
            return None
        if found is None:
            self.log.dropped[name] = f"its answer does not fit into max_length, {self.max_length} tokens"
            return None
        after, encoded, cut = found
        self.log.truncated[name] = Truncated(tokens, after, cut)
        return encoded

    def may_shorten(self, example: Example, name: str, tokens: int) -> bool:
        """Whether a row of too many `tokens` is to be shortened; if not, the log has it, or it is an error."""
        found = f"{tokens} tokens, and max_length is {self.max_length}"
        if self.overlong == "error":
            raise DataError(
                f"row '{name}' has {found}",
                where=str(example.origin),
                expected="rows that fit, since overlong is 'error'",
                remedy="raise max_length, or set overlong to trim_prompt or drop",
            )
        if self.overlong == "drop":
            self.log.dropped[name] = found
        return self.overlong == "trim_prompt"

    def _shorten(
        self, turns: Turns, limit: int, tokens: int, encode: Callable[[Turns], tuple[int, Encoded]]
    ) -> tuple[int, Encoded, str] | None:
        """How many tokens are left, encoded, and what was cut; None where the learned turns alone do not fit.

        The oldest exchanges (a user's turn and what answers it) go first; then the starts of the unlearned turns that
        are left, the oldest first, each to its last token at the least. System turns stay. `tokens` (more than `limit`)
        are there now; `encode` gives the number of tokens and the encoded turns.
        """
        cuts = []
        gone = 0
        encoded = None
        while tokens > limit and (exchange := oldest_exchange(turns)):
            begin, end = exchange
            gone += end - begin
            turns = turns[:begin] + turns[end:]
            tokens, encoded = encode(turns)
        if gone:
            cuts.append(f"the oldest {gone} turns")
        for index, turn in enumerate(turns):
            content = turn.content
            while tokens > limit and not turn.trained and turn.role not in SYSTEM:
                start = self._after(content, tokens - limit)
                if start is None:
                    break
                content = content[start:]
                turns = (*turns[:index], replace(turn, content=content), *turns[index + 1 :])
                tokens, encoded = encode(turns)
            if content != turn.content:
                cuts.append(f"the first {len(turn.content) - len(content)} characters of what the {turn.role} says")
        return (tokens, encoded, " and ".join(cuts)) if encoded is not None and tokens <= limit else None

    def _after(self, content: str, tokens: int) -> int | None:
        """Where the text goes on after so many of its tokens (or before its last), None where it has but one."""
        head = content[: 64 + 8 * tokens]  # a long text need not be encoded whole to find a place near its start
        begins = self.template.tokens(head, letters=True)[1]
        if len(begins) <= tokens + 1 and len(head) < len(content):
            begins = self.template.tokens(content, letters=True)[1]
        return max(1, int(begins[min(tokens, len(begins) - 1)])) if len(begins) > 1 else None

    # ---- tokens ----------------------------------------------------------------------------------------------------

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer itself puts before and after a text."""
        whole: list[int] = self.tokenizer("a", verbose=False)["input_ids"]
        plain = self._letters("a")
        at = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        return whole[:at], whole[at + len(plain) :]

    @cached_property
    def _document_frame(self) -> tuple[list[int], list[int]]:
        """As `_frame`, with the end token also where the tokenizer itself adds none."""
        (begin, end), last = self._frame, self.tokenizer.eos_token_id
        return begin, [last] if not end and last is not None else end

    def know(self, examples: Sequence[Example]) -> None:
        """Tokenizes these texts together, which is faster; conversations and questions are left for later."""
        plain = [example for example in examples if example.parts.keys().isdisjoint(("messages", "prompt", "question"))]
        texts = list(dict.fromkeys(map(_whole_text, plain)))
        self._known = dict(zip(texts, self._batch(texts), strict=True)) if texts else {}

    def _letters(self, text: str) -> list[int]:
        """The text's tokens; control tokens that it spells are letters like any others."""
        known = self._known.get(text)
        return self._tokenized([text])[0] if known is None else known

    def _tokenized(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, verbose=False, **_IDS_ALONE
        )["input_ids"]
        return ids


def encode_all(objective: Objective, examples: Sequence[Example], encoding: Encoding) -> list[Row]:
    """Every example's rows, in order.

    Errors: one DataError for all rows that cannot be encoded, the first five in full; or where no row is left.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    for some in _together(examples):
        encoding.know(some)
        for example in some:
            try:
                rows.extend(objective.encode(example, encoding))
            except DataError as error:
                problems.extend(problem.at(str(example.origin)) for problem in error.problems)
    encoding.know(())
    if problems:
        summary = Problem(f"{len(problems)} of {len(examples)} rows cannot be encoded; the first {len(problems[:5])}:")
        raise DataError([summary, *problems[:5]])
    if examples and not rows:
        reasons = Counter([*encoding.log.dropped.values(), *encoding.log.untrained.values()]).most_common(3)
        raise DataError(
            f"none of {len(examples)} rows can be learned from: "
            + "; ".join(f"{reason} ({count} rows)" for reason, count in reasons),
            expected="rows with something to learn that fits into max_length",
            remedy="`luthier plan` shows the rows; change the data, max_length or chat_template",
        )
    return rows


def _together(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    """Runs of examples with some hundred thousand characters each, or a single longer one."""
    begin, length = 0, 0
    for number, example in enumerate(examples):
        more = len(_whole_text(example))
        if number > begin and length + more > _TOGETHER:
            yield examples[begin:number]
            begin, length = number, 0
        length += more
    if begin < len(examples):
        yield examples[begin:]


def _whole_text(example: Example) -> str:
    """The text, or all texts of an example that has several."""
    text = example.parts.get("text")
    return text if isinstance(text, str) else example.text()
