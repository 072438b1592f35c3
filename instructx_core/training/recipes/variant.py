"""An edit stage of a changed model: what the study compares (study/experiments.py)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...config import Design, InstructXConfig, with_design
from .edit import EditRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantRecipe(EditRecipe):
    """design: the way to the context. model: fields of the config by dotted name, in this order, and their values."""

    job: ClassVar[str] = "edit of a variant"

    design: Design = "queries"
    model: dict[str, Any] = field(default_factory=dict)

    def model_config(self, config: InstructXConfig) -> InstructXConfig:
        config = with_design(EditRecipe.model_config(self, config), self.design)
        for name, value in self.model.items():
            config = with_value(config, name.split("."), value)
        return config


def with_value(part: Any, names: list[str], value: Any) -> Any:
    """A copy of a dataclass with the field that `names` leads to changed."""
    first, *rest = names
    inner = with_value(getattr(part, first), rest, value) if rest else value
    return dataclasses.replace(part, **{first: inner})
