"""Unstructured pruning: the smallest weights of each layer become zero. The file keeps its size."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ..base import Source
from ..errors import UnsupportedOption
from ..options import Option
from .base import Training
from .pruning import FIELDS, ITERATIVE, SPARSITY, STEPS, Pruning, is_trained

_PATTERN = re.compile(r"(\d{1,2}):(\d{1,2})")


class Unstructured(Pruning):
    method = "unstructured"
    fields: ClassVar = {
        "sparsity": SPARSITY,
        "pruning_schedule": Option(
            "string",
            "one_shot",
            "one_shot, or iterative: in several steps, after each of which the network is trained.",
            ("one_shot", ITERATIVE),
        ),
        "steps": STEPS,
        "pattern": Option(
            "string",
            None,
            'N:M, like "2:4": of M consecutive weights N stay. The sparsity must be that of the pattern. '
            "Default: any weights.",
        ),
        **FIELDS,
    }

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedOption for a malformed pattern, or one that has another sparsity or schedule."""
        super().check(format_name, config)
        iterative = config["pruning_schedule"] == ITERATIVE
        if iterative and not is_trained(config):
            raise UnsupportedOption(
                "iterative needs training data for unstructured pruning: without training between the steps "
                "it zeroes the same weights as one_shot. Give training_dataset_id.",
                allowed=["one_shot"],
                option="pruning_schedule",
            )
        if config["pattern"] is None:
            return
        if iterative:
            raise UnsupportedOption(
                "A pattern is pruned in one step: use pruning_schedule one_shot, or remove pattern.",
                allowed=["one_shot"],
                option="pruning_schedule",
            )
        match = _PATTERN.fullmatch(config["pattern"])
        kept, group = map(int, match.groups()) if match else (0, 0)
        if not 0 < kept < group:
            raise UnsupportedOption(
                'pattern must be N:M with N less than M, like "2:4".',
                allowed=["2:4", "1:4"],
                option="pattern",
            )
        if abs(1 - kept / group - config["sparsity"]) > 0.005:
            raise UnsupportedOption(
                f"The pattern {config['pattern']} has the sparsity {1 - kept / group:g}, not "
                f"{config['sparsity']:g}.",
                allowed=[1 - kept / group],
                option="sparsity",
            )

    def change(
        self, source: Source, config: Mapping[str, Any], training: Training | None
    ) -> tuple[Source, dict[str, Any]]:
        from . import zeros

        return zeros.prune(source, config, training)


TECHNIQUE = Unstructured()
