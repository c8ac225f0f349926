"""A model's tokenizer, and the tokens it must have beyond words: one to pad with, and those that end an answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, first_line
from ..core.sandbox import limited, refuse_powers, refuse_size
from .files import read_json
from .whole import refuse_code

__all__ = ["choose_pad", "load_tokenizer", "refuse_rowless", "spare_tokens", "stop_tokens", "vocabulary_size"]

_PROBE = "luthierprobe"


def load_tokenizer(folder: Path) -> tuple[Any, str | None]:
    """The tokenizer of a folder, with a padding token, and the note that says which one was chosen for it, if any.

    Errors: ModelError where there is none, or none that knows the offsets of its tokens.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError or its parser's own
        file = folder / "tokenizer_config.json"
        if file.is_file():
            refuse_code(read_json(file), file)
        raise ModelError(
            f"the tokenizer cannot be loaded: {first_line(error)}",
            where=str(folder),
            expected="tokenizer.json and tokenizer_config.json",
            remedy="copy the tokenizer's files from the model that this one was made from",
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell where its tokens lie in the text",
            where=str(folder),
            expected="a fast tokenizer (tokenizer.json)",
            remedy="convert it once: transformers.convert_slow_tokenizer writes tokenizer.json",
        )
    return tokenizer, choose_pad(tokenizer)


def vocabulary_size(tokenizer: Any) -> int:
    """Rows that an embedding must have for every id of the tokenizer: the largest id plus one."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def spare_tokens(tokenizer: Any) -> set[int]:
    """Ids of special tokens that neither text nor template leads to, so that a model may lack rows for them.

    Gemma 3's smallest model, which sees no images, comes with a token for them. Text that spells a special token is
    encoded as letters.
    """
    used = {getattr(tokenizer, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "unk", "cls", "sep", "mask")}
    template = str(tokenizer.chat_template or "")
    return {number for token, number in _special(tokenizer).items() if number not in used and token not in template}


def refuse_rowless(largest: int, config: Any) -> None:
    """Errors: ModelError where the largest of some ids has no row in the embedding of a model of this configuration."""
    rows = config.get_text_config().vocab_size
    if largest >= rows:
        raise ModelError(
            f"the token with id {largest} is used, and the embedding has {rows} rows",
            expected="tokens that the model has a row for",
            remedy="take the token out of the chat template",
        )


def choose_pad(tokenizer: Any) -> str | None:
    """Gives a tokenizer without a padding token one, and says which and why; None where it had one.

    In order: a token made for padding, a reserved token that no text produces, the unknown token, the begin token, and
    last the end token. Even the last is safe here, since padding is known from lengths and never from ids; the note
    warns those who take the model elsewhere. Nothing is added to the vocabulary.
    """
    if tokenizer.pad_token_id is not None:
        return None
    special = [token for token, _ in sorted(_special(tokenizer).items(), key=lambda item: item[1])]
    ends = {tokenizer.eos_token, tokenizer.bos_token}
    for pattern, why in ((r"pad", "made for padding"), (r"reserved|unused", "reserved, and no text produces it")):
        named = [token for token in special if re.search(pattern, token, re.IGNORECASE) and token not in ends]
        if named:
            tokenizer.pad_token = named[0]
            return f"the tokenizer has no padding token; '{named[0]}' is used: {why}"
    for token, why in (
        (tokenizer.unk_token, "the unknown token"),
        (tokenizer.bos_token, "the begin token"),
        (tokenizer.eos_token, "the end token; padding is told from lengths here, elsewhere mask by length too"),
    ):
        if token is not None and (token != tokenizer.eos_token or why.startswith("the end")):
            tokenizer.pad_token = token
            return f"the tokenizer has no padding token; '{token}' is used: {why}"
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    return f"the tokenizer has no padding token and no special ones; '{tokenizer.pad_token}' (id 0) is used"


def stop_tokens(tokenizer: Any, also: int | Iterable[int] | None = None) -> list[int]:
    """Ids that end an answer, ascending: the end token, the chat template's end of turn, and those of `also`.

    The end of turn is the first special token that the template writes after an assistant's content. A template that
    cannot render a plain exchange adds nothing here; encoding refuses it with its reason.
    """
    ids = {also} if isinstance(also, int) else set(also or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    if tokenizer.chat_template:
        ids.update(_end_of_turn(tokenizer))
    return sorted(ids)


def _end_of_turn(tokenizer: Any) -> list[int]:
    exchange = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _PROBE}]
    try:
        refuse_powers(str(tokenizer.chat_template))
        with limited():
            text = tokenizer.apply_chat_template(exchange, tokenize=False)
    except ModelError:
        raise
    except Exception:  # whatever a stranger's template does wrong
        return []
    refuse_size(text)
    _, found, tail = text.rpartition(_PROBE)
    if not found:
        return []
    special = set(_special(tokenizer).values())
    return [token for token in tokenizer(tail, add_special_tokens=False)["input_ids"] if token in special][:1]


def _special(tokenizer: Any) -> dict[str, int]:
    added = {str(token): id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
