"""The option ``inputs``: the model's inputs, if its checkpoint does not record them."""

import re
from collections.abc import Sequence
from typing import Any

from ..base import TensorSpec
from ..errors import UnsupportedOption
from .tensors import DTYPES

EXAMPLE = 'inputs=[{"name": "input", "shape": ["batch", 3, 224, 224], "dtype": "float32"}]'


def parse(given: Any, arguments: Sequence[str], model: str) -> tuple[TensorSpec, ...]:
    """Return one specification for each of ``arguments``, the model's names of its inputs.

    ``model`` begins the sentence that asks for the option: "TorchScript".

    Raises:
        UnsupportedOption: missing, wrong, or not as many as the model takes.
    """
    if not given:
        raise UnsupportedOption(
            f"{model} does not record the shapes of its inputs ({', '.join(arguments)}). Declare "
            f"them with the option inputs, for example {EXAMPLE}; a name in a shape is an axis of "
            "any size.",
            allowed=EXAMPLE,
            option="inputs",
        )
    if len(given) != len(arguments):
        raise wrong(f"has {len(given)} entries, but the model takes {len(arguments)}: {', '.join(arguments)}")
    specs = []
    for entry, argument in zip(given, arguments, strict=True):
        if not isinstance(entry, dict) or set(entry) - {"name", "shape", "dtype"} or "shape" not in entry:
            raise wrong("needs entries with name, shape and dtype")
        name, dtype, shape = entry.get("name", argument), entry.get("dtype", "float32"), entry["shape"]
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise wrong("has a name that is not a plain identifier")
        if dtype not in DTYPES:
            raise wrong(f"has a dtype that is not one of {', '.join(DTYPES)}")
        if not isinstance(shape, list) or not all(map(_is_axis, shape)):
            raise wrong("has a shape that is not a list of sizes and axis names")
        specs.append(TensorSpec(name, dtype, tuple(shape)))
    if len({spec.name for spec in specs}) != len(specs):
        raise wrong("uses a name twice")
    return tuple(specs)


def wrong(what: str) -> UnsupportedOption:
    return UnsupportedOption(
        f"The option inputs {what}. Example: {EXAMPLE}.", allowed=EXAMPLE, option="inputs"
    )


def _is_axis(size: Any) -> bool:
    if isinstance(size, str):
        return re.fullmatch(r"[A-Za-z_]\w*", size) is not None
    return isinstance(size, int) and not isinstance(size, bool) and size > 0
