"""llama2.c's layout: logits beside a numpy reading of its forward pass; a known checkpoint says its known text."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luthier.core.component import build
from luthier.core.errors import ModelError
from luthier.models.export import reload, save_model
from luthier.models.generate import generate
from luthier.models.llama2c import read_llama2c

Arrays = dict[str, np.ndarray[Any, np.dtype[np.float32]]]
WIDTH, INNER, BLOCKS, HEADS, KEY_HEADS, PIECES, LONGEST = SHAPE = (16, 24, 2, 4, 2, 263, 32)
HEAD = WIDTH // HEADS
SIZES = {
    "embedding": (PIECES, WIDTH),
    "att_norm": (BLOCKS, WIDTH),
    "wq": (BLOCKS, WIDTH, WIDTH),
    "wk": (BLOCKS, KEY_HEADS * HEAD, WIDTH),
    "wv": (BLOCKS, KEY_HEADS * HEAD, WIDTH),
    "wo": (BLOCKS, WIDTH, WIDTH),
    "ffn_norm": (BLOCKS, WIDTH),
    "w1": (BLOCKS, INNER, WIDTH),
    "w2": (BLOCKS, WIDTH, INNER),
    "w3": (BLOCKS, INNER, WIDTH),
    "norm": (WIDTH,),
    "rotary": (2, LONGEST, HEAD // 2),
    "head": (PIECES, WIDTH),
}


def made(folder: Path, *, tied: bool) -> tuple[Path, Path, Arrays]:
    """Files of random weights and a tokenizer of bytes and four pieces; and the arrays."""
    draw = np.random.default_rng(0)
    arrays = {name: draw.standard_normal(size).astype(np.float32) * 0.3 for name, size in SIZES.items()}
    kept = [name for name in SIZES if not (tied and name == "head")]
    shape = (*SHAPE[:5], PIECES if tied else -PIECES, LONGEST)
    weights, tokenizer = folder / "model.bin", folder / "tok.bin"
    weights.write_bytes(struct.pack("<7i", *shape) + b"".join(arrays[name].tobytes() for name in kept))
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % byte for byte in range(256)), b" ", b"a", b"b", b" a"]
    scores = [0.0] * (len(pieces) - 1) + [-1.0]
    packed = [struct.pack("<fi", score, len(piece)) + piece for score, piece in zip(scores, pieces, strict=True)]
    tokenizer.write_bytes(struct.pack("<i", 6) + b"".join(packed))
    return weights, tokenizer, arrays if not tied else arrays | {"head": arrays["embedding"]}


def run_c(ids: list[int], w: Arrays) -> np.ndarray[Any, Any]:
    """run.c's forward, token by token: neighbors in a head are turned together by position / 10000^(2i / head)."""
    keys: list[list[Any]] = [[] for _ in range(BLOCKS)]
    values: list[list[Any]] = [[] for _ in range(BLOCKS)]
    found = []

    def norm(x: Any, weight: Any) -> Any:
        return weight * x / np.sqrt((x**2).mean() + 1e-5)

    def turn(x: Any, position: int) -> Any:
        angles = position / 10000 ** (np.arange(0, HEAD, 2) / HEAD)
        even, odd = x[:, 0::2], x[:, 1::2]
        turned = np.empty_like(x)
        turned[:, 0::2] = even * np.cos(angles) - odd * np.sin(angles)
        turned[:, 1::2] = even * np.sin(angles) + odd * np.cos(angles)
        return turned

    for position, token in enumerate(ids):
        x = w["embedding"][token].astype(np.float64)
        for at in range(BLOCKS):
            h = norm(x, w["att_norm"][at])
            query = turn((w["wq"][at] @ h).reshape(HEADS, HEAD), position)
            keys[at].append(turn((w["wk"][at] @ h).reshape(KEY_HEADS, HEAD), position))
            values[at].append((w["wv"][at] @ h).reshape(KEY_HEADS, HEAD))
            seen = []
            for head in range(HEADS):
                of = head * KEY_HEADS // HEADS
                scores = np.array([key[of] @ query[head] for key in keys[at]]) / np.sqrt(HEAD)
                chances = np.exp(scores - scores.max())
                chances /= chances.sum()
                seen.append(sum(chance * value[of] for chance, value in zip(chances, values[at], strict=True)))
            x = x + w["wo"][at] @ np.concatenate(seen)
            h = norm(x, w["ffn_norm"][at])
            gate = w["w1"][at] @ h
            x = x + w["w2"][at] @ (gate / (1 + np.exp(-gate)) * (w["w3"][at] @ h))
        found.append(w["head"] @ norm(x, w["norm"]))
    return np.stack(found)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_layouts_own_forward_pass(tmp_path: Path, tied: bool) -> None:
    weights, tokenizer, arrays = made(tmp_path, tied=tied)
    model, _ = read_llama2c(weights, tokenizer)
    ids = [1, 260, 261, 5, 262, 259, 40]
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    np.testing.assert_allclose(found, run_c(ids, arrays), rtol=0, atol=1e-5)


def test_the_tokenizer_merges_by_score_and_falls_back_to_bytes(tmp_path: Path) -> None:
    _, tokenizer = read_llama2c(*made(tmp_path, tied=True)[:2])
    assert tokenizer.convert_ids_to_tokens(tokenizer("a b", add_special_tokens=False)["input_ids"]) == [
        "\u2581a",
        "\u2581",
        "b",
    ]
    for text in ("a b ab", "größer ab\n“b”"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        assert tokenizer.unk_token_id not in ids


BREAKS: list[tuple[str, Callable[[Path, Path], object], str]] = [
    ("short", lambda w, t: w.write_bytes(b"abc"), "3 bytes, fewer than its head"),
    ("cut", lambda w, t: w.write_bytes(w.read_bytes()[:-4]), "bytes where its head"),
    ("no shape", lambda w, t: w.write_bytes(b"\0" * 400), "no model's shape"),
    ("text", lambda w, t: t.write_text("hello there"), "of .* bytes|an end within"),
    ("few pieces", lambda w, t: t.write_bytes(t.read_bytes()[:4]), "0 pieces"),
    ("another's", lambda w, t: t.write_bytes(t.read_bytes() + struct.pack("<fi", 0, 1) + b"c"), "264 pieces, the mo"),
    ("cut piece", lambda w, t: t.write_bytes(t.read_bytes()[:-1]), "piece 262 of 2 bytes"),
    ("no UTF-8", lambda w, t: t.write_bytes(t.read_bytes()[:-1] + b"\xff"), "piece 262, which is no UTF-8"),
]


@pytest.mark.parametrize(("change", "told"), [item[1:] for item in BREAKS], ids=[item[0] for item in BREAKS])
def test_other_files_are_refused(tmp_path: Path, change: Callable[[Path, Path], object], told: str) -> None:
    weights, tokenizer, _ = made(tmp_path, tied=True)
    change(weights, tokenizer)
    with pytest.raises(ModelError, match=told):
        read_llama2c(weights, tokenizer)


# ---- a checkpoint that nobody here made ------------------------------------------------------------------------------


@pytest.fixture
def stories(data_file: Callable[[str], Path]) -> tuple[Any, Any, str]:
    """stories260K, its tokenizer and the text it must say."""
    folder = data_file("models/stories260K/stories260K.bin").parent
    model, tokenizer = read_llama2c(folder / "stories260K.bin", folder / "tok512.bin")
    told = (folder / "layout-and-expected-text.txt").read_text(encoding="utf-8")
    return model, tokenizer, re.split(r"word for word:\n\n", told)[1].rstrip("\n")


def greedy(model: Any, tokenizer: Any, tokens: int) -> str:
    found = generate(model, [[tokenizer.bos_token_id]], stop=[], pad=0, max_new_tokens=tokens)
    return str(tokenizer.decode(found[0], clean_up_tokenization_spaces=False)).lstrip(" ")


def test_greedy_text_is_word_for_word_the_known_one(stories: tuple[Any, Any, str]) -> None:
    model, tokenizer, wanted = stories
    assert len(wanted) > 400
    tokens = len(tokenizer(wanted, add_special_tokens=False)["input_ids"])
    assert greedy(model, tokenizer, tokens) == wanted


def test_lora_merged_and_reloaded_keeps_parity(stories: tuple[Any, Any, str], tmp_path: Path) -> None:
    model, tokenizer, wanted = stories
    ids = tokenizer(wanted, return_tensors="pt")["input_ids"]
    lora = build("adaptations", {"lora": {"rank": 4}})
    with torch.no_grad():
        before = model(ids).logits
        adapted = lora.apply(model)
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.05)
        changed = adapted(ids).logits
        merged = lora.merge(adapted)
        save_model(merged, tokenizer, tmp_path / "model")
        again = reload(tmp_path / "model", "causal_lm").model
        assert (changed - before).abs().max() > 0.1
        torch.testing.assert_close(merged(ids).logits, changed, rtol=0, atol=1e-4)
        assert torch.equal(again(ids).logits, merged(ids).logits)
