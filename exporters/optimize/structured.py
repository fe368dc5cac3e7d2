"""Structured pruning: whole channels are removed, so that file and latency shrink."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..base import Source
from ..options import Option
from .base import Training
from .pruning import FIELDS, ITERATIVE, SPARSITY, STEPS, Pruning


class Structured(Pruning):
    method = "structured"
    fields: ClassVar = {
        "sparsity": SPARSITY,
        "pruning_schedule": Option(
            "string",
            "one_shot",
            "one_shot, or iterative: in several steps, each of which ranks the remaining channels again.",
            ("one_shot", ITERATIVE),
        ),
        "steps": STEPS,
        **FIELDS,
    }

    def needs(self, format_name: str) -> tuple[str, ...]:
        return ("torch_pruning",)

    def change(
        self, source: Source, config: Mapping[str, Any], training: Training | None
    ) -> tuple[Source, dict[str, Any]]:
        from . import channels

        return channels.prune(source, config, training)


TECHNIQUE = Structured()
