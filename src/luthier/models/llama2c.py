"""Models in the layout of llama2.c, brought into Hugging Face's.

Weights: seven little-endian int32 (width, inner width, blocks, heads, key heads, pieces, longest text; a negative
number of pieces means an output layer of its own), then float32 arrays: embedding, attention norms, query, key, value,
output, feed-forward norms, gate, down, up, final norm, two rotary tables, and the output layer if it has one.
Tokenizer: int32 longest piece, then for each piece a float32 score, an int32 length and its bytes; 0 is unknown, 1
begins, 2 ends, the next 256 are bytes. Source: run.c and export.py of github.com/karpathy/llama2.c.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.errors import ModelError

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["read_llama2c"]

_UNKNOWN, _BEGIN, _END, _BYTES = 0, 1, 2, 256
_SPACE = "\u2581"
"""How pieces write a space, as SentencePiece does."""


def read_llama2c(weights: Path, tokenizer: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model in float32, and its tokenizer. Errors: ModelError where a file is not in that layout."""
    shape, arrays = _read_weights(weights)
    pieces = _read_pieces(tokenizer)
    if len(pieces) != abs(shape.pieces):
        raise ModelError(
            f"the tokenizer has {len(pieces)} pieces, the model {abs(shape.pieces)}",
            where=str(tokenizer),
            expected="the tokenizer that the model was trained with",
        )
    return _model(shape, arrays), _tokenizer(pieces, shape.longest)


class _Shape(NamedTuple):
    width: int
    inner: int
    blocks: int
    heads: int
    key_heads: int
    pieces: int
    longest: int


class _Piece(NamedTuple):
    text: str
    score: float


# ---- weights ---------------------------------------------------------------------------------------------------------


def _read_weights(path: Path) -> tuple[_Shape, dict[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    data = path.read_bytes()
    if len(data) < 28:
        raise _unlike(path, f"{len(data)} bytes, fewer than its head of 28")
    shape = _Shape(*struct.unpack_from("<7i", data))
    if min(shape[:5]) < 1 or shape.longest < 1 or not shape.pieces or shape.width % shape.heads:
        raise _unlike(path, f"the head {tuple(shape)}, which is no model's shape")
    sizes = _sizes(shape)
    wanted = 28 + 4 * sum(int(np.prod(size)) for size in sizes.values())
    if len(data) != wanted:
        raise _unlike(path, f"{len(data):,} bytes where its head {tuple(shape)} makes {wanted:,}")
    found, at = {}, 28
    for name, size in sizes.items():
        count = int(np.prod(size))
        found[name] = np.frombuffer(data, dtype="<f4", count=count, offset=at).reshape(size).astype(np.float32)
        at += 4 * count
    return shape, found


def _sizes(shape: _Shape) -> dict[str, tuple[int, ...]]:
    """The arrays in the file's order."""
    width, inner, blocks = shape.width, shape.inner, shape.blocks
    head = width // shape.heads
    keys = shape.key_heads * head
    sizes: dict[str, tuple[int, ...]] = {
        "embedding": (abs(shape.pieces), width),
        "attention_norm": (blocks, width),
        "query": (blocks, width, width),
        "key": (blocks, keys, width),
        "value": (blocks, keys, width),
        "output": (blocks, width, width),
        "feed_forward_norm": (blocks, width),
        "gate": (blocks, inner, width),
        "down": (blocks, width, inner),
        "up": (blocks, inner, width),
        "norm": (width,),
        "cosines": (shape.longest, head // 2),
        "sines": (shape.longest, head // 2),
    }
    return sizes | ({"head": (abs(shape.pieces), width)} if shape.pieces < 0 else {})


def _model(shape: _Shape, arrays: dict[str, np.ndarray[Any, np.dtype[np.float32]]]) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=abs(shape.pieces),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=shape.longest,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        tie_word_embeddings=shape.pieces > 0,
        bos_token_id=_BEGIN,
        eos_token_id=_END,
        pad_token_id=_UNKNOWN,
    )
    names = {
        "attention_norm": "input_layernorm",
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.o_proj",
        "feed_forward_norm": "post_attention_layernorm",
        "gate": "mlp.gate_proj",
        "down": "mlp.down_proj",
        "up": "mlp.up_proj",
    }
    state = {"model.embed_tokens.weight": arrays["embedding"], "model.norm.weight": arrays["norm"]}
    state["lm_head.weight"] = arrays.get("head", arrays["embedding"])
    for name, place in names.items():
        for number, array in enumerate(arrays[name]):
            heads = {"query": shape.heads, "key": shape.key_heads}.get(name)
            state[f"model.layers.{number}.{place}.weight"] = array if heads is None else _halved(array, heads)
    model = LlamaForCausalLM(config)
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()})
    return model.eval()


def _halved(matrix: np.ndarray[Any, np.dtype[np.float32]], heads: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """llama2.c turns neighbors in a head together, transformers numbers half a head apart: rows in that order."""
    rows, width = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


# ---- tokenizer -------------------------------------------------------------------------------------------------------


def _read_pieces(path: Path) -> list[_Piece]:
    data, at, found = path.read_bytes(), 4, list[_Piece]()
    while at < len(data):
        if at + 8 > len(data):
            raise _unlike(path, f"an end within piece {len(found)}")
        score, length = struct.unpack_from("<fi", data, at)
        at += 8
        if not 0 <= length <= len(data) - at:
            raise _unlike(path, f"piece {len(found)} of {length} bytes")
        try:
            text = data[at : at + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise _unlike(path, f"piece {len(found)}, which is no UTF-8") from error
        found.append(_Piece(text.replace(" ", _SPACE), score))
        at += length
    if len(found) < 3 + _BYTES or found[3].text != "<0x00>":
        raise _unlike(path, f"{len(found)} pieces, without those for single bytes after the first three")
    return found


def _tokenizer(pieces: list[_Piece], longest: int) -> PreTrainedTokenizerFast:
    """Byte-pair encoding whose merges are ranked by the score of what they make, as llama2.c picks them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<s>", "</s>", *(piece.text for piece in pieces[3:])]
    place = {name: number for number, name in enumerate(names)}
    merges = []
    for number, name in enumerate(names[3 + _BYTES :], 3 + _BYTES):
        for cut in range(1, len(name)):
            left, right = name[:cut], name[cut:]
            if left in place and right in place:
                merges.append((-pieces[number].score, number, left, right))
    ranked = [(left, right) for _, _, left, right in sorted(merges)]
    inner = Tokenizer(models.BPE(place, ranked, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    inner.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names[:3]])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        model_max_length=longest,
    )


def _unlike(path: Path, found: str) -> ModelError:
    return ModelError(found, where=str(path), expected="a file in the layout of llama2.c")
