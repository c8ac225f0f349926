"""Encoder-decoders that rewrite texts: translation and paraphrase models of transformers (Marian, T5, BART), greedy or
with draws that belong to the item.

    model = load_seq2seq("models/opus-mt-en-de")
    model.rewrite(["Where is my card?"], temperature=0.7, top_p=0.9, seeds=[1], max_new_tokens=64)

One model for one direction; models of many languages, which ask for a language's token, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import ModelError, first_line
from .attention import still
from .configuration import MANY_LANGUAGES, plain_configuration
from .decoding import Request, chooser
from .generate_encoded import generate_encoded
from .load import quiet
from .source import fetch, resolve, weight_files
from .weights import refuse_infinite

__all__ = ["Seq2Seq", "is_seq2seq", "load_seq2seq"]


def is_seq2seq(source: str) -> bool:
    """Whether `source` names an encoder-decoder. Errors: ModelError as load_model."""
    folder = fetch(resolve(source)).folder
    assert folder is not None
    return bool(getattr(plain_configuration(folder), "is_encoder_decoder", False))


@dataclass(frozen=True)
class Seq2Seq:
    """An encoder-decoder with its tokenizer. max_length: tokens of a text that are read; micro_tokens: what is held at
    once, new ones counted.
    """

    model: Any
    tokenizer: Any
    max_length: int
    micro_tokens: int = 8192

    def rewrite(
        self, texts: Sequence[str], *, temperature: float, top_p: float, seeds: Sequence[int], max_new_tokens: int
    ) -> list[str]:
        """What the model makes of each text; temperature 0 is greedy, otherwise item i draws from seeds[i]."""
        if not texts:
            return []
        tokens: list[list[int]] = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, verbose=False
        )["input_ids"]
        asked = [at for at, ids in enumerate(tokens) if ids]
        request = Request(
            prompts=[tokens[at] for at in asked],
            rooms=[max_new_tokens] * len(asked),
            stop=_ends(self.model),
            pad=int(self.tokenizer.pad_token_id),
            limit=None,
            budget=self.micro_tokens,
            choose=chooser(temperature, top_p, [seeds[at] for at in asked], max_new_tokens),
        )
        found = [""] * len(texts)
        with still(self.model), torch.inference_mode():
            for at, ids in zip(asked, generate_encoded(self.model, request), strict=True):
                found[at] = str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()
        return found


def _ends(model: Any) -> frozenset[int]:
    named = model.generation_config.eos_token_id
    named = model.config.eos_token_id if named is None else named
    return frozenset(named if isinstance(named, list) else [named])


def load_seq2seq(source: str) -> Seq2Seq:
    """The encoder-decoder that `source` names: a folder or a hub id.

    Errors: ModelError for a model that cannot be loaded whole, or one of many languages.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = fetch(resolve(source)).folder
    assert folder is not None
    config = plain_configuration(folder)
    if config.model_type in MANY_LANGUAGES:
        raise ModelError(
            f"'{config.model_type}' translates between many languages and has to be told which",
            where=source,
            expected="a model for one direction, such as Marian's, or a causal model with a prompt that says it",
        )
    weight_files(folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            model, info = AutoModelForSeq2SeqLM.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # a torn file, a missing package for the tokenizer: each library raises its own
        raise ModelError(
            f"the encoder-decoder cannot be loaded: {first_line(error)}",
            where=str(folder),
            expected="a folder of transformers with safetensors and a tokenizer",
            remedy="copy the folder again; a tokenizer of SentencePiece needs the package sentencepiece",
        ) from error
    if info["missing_keys"]:
        raise ModelError(f"{len(info['missing_keys'])} weights are missing", where=str(folder))
    refuse_infinite(model.named_parameters(), folder)
    limits = [tokenizer.model_max_length, 512, getattr(config, "max_position_embeddings", None)]
    return Seq2Seq(model.eval(), tokenizer, min(int(limit) for limit in limits if limit is not None))
