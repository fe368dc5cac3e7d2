"""Palettization: each weight is an index into a table of its tensor's values."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import UnsupportedOption
from ..formats.torch_to_coreml import COMPRESSED_TARGETS
from ..options import Option
from .base import QUANTIZATION, ArtefactTechnique

_BITS = (1, 2, 3, 4, 6, 8)


class Palettization(ArtefactTechnique):
    section = QUANTIZATION
    method = "palettization"
    fields: ClassVar = {
        "bits": Option(
            "integer",
            4,
            "The bits of an index, 1, 2, 3, 4, 6 or 8; a table has 2 to this power entries.",
            (1, 8),
        ),
    }
    steps: ClassVar = {"coreml": "exporters.optimize.coreml_weights"}
    beside: ClassVar = {"coreml": {"minimum_deployment_target": COMPRESSED_TARGETS}}

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedOption for a number of bits that Core ML does not have."""
        super().check(format_name, config)
        if config["bits"] not in _BITS:
            raise UnsupportedOption(
                f"bits must be one of {', '.join(map(str, _BITS))}.", allowed=list(_BITS), option="bits"
            )


TECHNIQUE = Palettization()
