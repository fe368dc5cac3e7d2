"""Techniques that a request can name and that no format supports, with the reason."""

from typing import ClassVar

from .base import QUANTIZATION, Technique


class Absent(Technique):
    fields: ClassVar = {}
    reason: ClassVar[str]

    def why_not(self, format_name: str) -> str | None:
        return self.reason


class BFloat16(Absent):
    section = QUANTIZATION
    method = "bfloat16"
    reason = (
        "Arithmetic in bfloat16 is not supported: on most processors the runtimes compute in float32 "
        "instead. Use float16, whose files are as small."
    )


TECHNIQUES = (BFloat16(),)
