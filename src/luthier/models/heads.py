"""Which parts of a model are its head, its blocks and its embeddings, found by structure and not by a list of models.

    embeddings -> layers[0] ... layers[n-1] -> (final norm) -> head

The names are those of `model.named_parameters()`, so they hold for a model that PEFT has wrapped as well.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..core.errors import ModelError

__all__ = ["embedding_parameters", "head_parameters", "layers", "plain"]


def plain(model: nn.Module) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model  # type: ignore[operator]


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The transformer blocks from the first to the last, with their names in `model`; an encoder's, then its decoder's.

    They are the longest nn.ModuleList that lies inside no other (experts do); of equals, the one with more parameters.
    Errors: ModelError where there is none.
    """
    inner = plain(model)
    two_sides = getattr(getattr(inner, "config", None), "is_encoder_decoder", False)
    sides = [inner.get_encoder(), inner.get_decoder()] if two_sides else [model]
    return [block for side in sides for block in _longest_list(side, _name_of(model, side))]


def _longest_list(model: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules(prefix=prefix):
        inside = any(name.startswith(outer + ".") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            found.append((name, module))
    if not found:
        raise ModelError(
            f"{type(plain(model)).__name__} has no list of blocks",
            expected="a transformer whose blocks lie in one nn.ModuleList",
            remedy="choose an adaptation that does not go by layers, such as full",
        )
    name, blocks = max(found, key=lambda item: (len(item[1]), sum(p.numel() for p in item[1].parameters())))
    return [(f"{name}.{index}", block) for index, block in enumerate(blocks)]


def head_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters of the head: everything outside the body, and a pooler.

    BERT's pooler counts as head: it is the dense layer that RoBERTa, DistilBERT and ModernBERT keep in theirs. A
    language model whose output layer is tied to its embedding has no head of its own. The frozen copies that PEFT
    keeps of a head are not listed.
    """
    inner = plain(model)
    body = inner.base_model if hasattr(inner, "base_model") else inner
    prefix = _name_of(model, body)
    tied = {id(parameter) for parameter in _embedding_weights(inner)}
    return [
        name
        for name, parameter in model.named_parameters()
        if id(parameter) not in tied
        and ".original_module." not in f".{name}"
        and (not _under(name, prefix) or "pooler" in _rest(name, prefix).split("."))
    ]


def embedding_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters below the first block: token, position and type embeddings, and their norm."""
    blocks = {name.rpartition(".")[0] for name, _ in layers(model)}
    head = set(head_parameters(model))
    tables = [name for name, module in model.named_modules() if isinstance(module, nn.Embedding)]
    return [
        name
        for name, _ in model.named_parameters()
        if not any(_under(name, one) for one in blocks)
        and name not in head
        and ".original_module." not in f".{name}"
        and (any(_under(name, table) for table in tables) or any("embed" in part for part in name.split(".")))
    ]


def _embedding_weights(inner: Any) -> list[nn.Parameter]:
    table = inner.get_input_embeddings() if hasattr(inner, "get_input_embeddings") else None
    return list(table.parameters()) if isinstance(table, nn.Module) else []


def _name_of(model: nn.Module, part: nn.Module) -> str:
    return next((name for name, module in model.named_modules() if module is part), "")


def _under(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(prefix + ".")


def _rest(name: str, prefix: str) -> str:
    return name[len(prefix) + 1 :] if prefix else name
