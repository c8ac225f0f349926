"""What parts of a recipe and components have in common: frozen, closed to unknown keys, and exact about numbers."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from .errors import Problem
from .problems import refused

__all__ = ["Strict"]


class Strict(BaseModel):
    """Frozen; an unknown key, a number that is not finite, and true or false for a number are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1: a rate of `true` would train, at 1."""
        given = value if isinstance(value, (list, tuple)) else (value,)
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if any(isinstance(item, bool) for item in given) and {int, float} & kinds and bool not in kinds:
            raise refused(Problem("true and false are no numbers", expected="a number", remedy="write the number"))
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    inner = get_args(annotation)
    return {kind for part in inner for kind in _kinds(part)} if inner else {annotation}
