"""The sides of the embedding benchmark. A request is {texts, batch?}; the answer {wall, cpu, tokens, vectors}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks._turns import Clock, Turns

__all__ = ["ours", "peer"]


def ours(settings: Mapping[str, Any], turns: Turns) -> None:
    """In the dtype that pays. The allocator has the peer's settings (_turns.ALLOCATOR), not those of our commands."""
    from luthier.core.recipe import Machine
    from luthier.engine.device import choose
    from luthier.models.embed import load_embedder

    compute = choose(Machine(device="cpu"))
    embedder = load_embedder(settings["model"], dtype=compute.dtype, device=compute.device)
    embedder.embed(["to warm up"])
    for request in turns:
        clock = Clock()
        vectors = embedder.embed(request["texts"])
        read = clock.read()
        encoded = embedder.tokenizer(request["texts"], truncation=True, max_length=embedder.max_length)["input_ids"]
        turns.answer({**read, "tokens": sum(map(len, encoded)), "vectors": vectors, "dtype": str(compute.dtype)})


def peer(settings: Mapping[str, Any], turns: Turns) -> None:
    """sentence-transformers' encode. settings: folder, dtype. Its tokens are counted as ours are: without padding."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(settings["folder"], device="cpu", model_kwargs={"dtype": settings["dtype"]})
    model.encode(["to warm up"])
    for request in turns:
        clock = Clock()
        vectors = model.encode(request["texts"], batch_size=request["batch"], show_progress_bar=False)
        read = clock.read()
        encoded = model.tokenizer(request["texts"], truncation=True, max_length=model.max_seq_length)["input_ids"]
        turns.answer({**read, "tokens": sum(map(len, encoded)), "vectors": vectors.astype("float32")})
