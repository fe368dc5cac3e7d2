"""Unstructured pruning: the smallest weights of each layer become zero. The file keeps its size."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ..base import Source
from ..errors import UnsupportedOption
from ..options import Option
from .pruning import SPARSITY, Pruning

_PATTERN = re.compile(r"(\d{1,2}):(\d{1,2})")


class Unstructured(Pruning):
    method = "unstructured"
    fields: ClassVar = {
        "sparsity": SPARSITY,
        "pruning_schedule": Option(
            "string",
            "one_shot",
            "one_shot.",
            ("one_shot",),
            refused={"iterative": "without training between the steps it zeroes the same weights"},
        ),
        "pattern": Option(
            "string",
            None,
            'N:M, like "2:4": of M consecutive weights N stay. The sparsity must be that of the pattern. '
            "Default: any weights.",
        ),
    }

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedOption for a malformed pattern, or one that has another sparsity."""
        super().check(format_name, config)
        if config["pattern"] is None:
            return
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

    def apply(self, source: Source, config: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
        from . import zeros

        return zeros.prune(source, config)


TECHNIQUE = Unstructured()
