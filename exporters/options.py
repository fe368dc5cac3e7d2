"""The options of a format, and their validation before a job starts, without a framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from .errors import UnsupportedOption


@dataclass(frozen=True)
class Option:
    """An option. ``allowed``: a number's (smallest, largest); otherwise the values, or None for any.

    ``also``: values of another type that it accepts too. ``refused``: values that exist for the option, but
    not for this format, with the reason.
    """

    type: Literal["integer", "number", "boolean", "string", "object", "array"]
    default: Any
    description: str
    allowed: tuple[Any, ...] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    also: tuple[Any, ...] = ()

    def explain(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "default": self.default,
            "allowed": list(self.allowed) if self.allowed else None,
            "description": self.description,
        }

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.default is None
        if value in self.also:
            return True
        if self.type in ("integer", "number"):
            numbers = int if self.type == "integer" else (int, float)
            if not isinstance(value, numbers) or isinstance(value, bool):
                return False
            return self.allowed is None or self.allowed[0] <= value <= self.allowed[1]
        wanted = {"boolean": bool, "string": str, "object": dict, "array": list}[self.type]
        return isinstance(value, wanted) and (self.allowed is None or value in self.allowed)

    def why_not(self, value: Any) -> str:
        given = value if isinstance(value, list) else [value]
        reasons = [reason for name, reason in self.refused.items() if name in given]
        return f": {reasons[0]}" if reasons else ""


# Options of every format: information that a checkpoint does not contain.
SOURCE_OPTIONS: Mapping[str, Option] = {
    "inputs": Option(
        "array",
        None,
        'For a checkpoint that does not record its inputs: [{"name": "input", "shape": '
        '["batch", 3, 224, 224], "dtype": "float32"}]; a name in a shape is an axis of any '
        "size.",
    ),
    "architecture": Option(
        "string",
        None,
        "For a checkpoint with weights only: timm:NAME, hf:config.json next to it, or module:Class "
        "of a package that the operator allows.",
    ),
}


# An option of formats whose graph can hold the declared preprocessing.
EMBED_PREPROCESSING = Option(
    "boolean",
    False,
    "Embed the declared preprocessing of an image, without its resize, and a classifier's softmax "
    "into the graph: it then takes uint8[batch, height, width, 3] in RGB.",
)


EMBED_POSTPROCESSING = Option(
    "boolean",
    False,
    "Embed a detector's declared non-maximum suppression into the graph: its first output is then "
    "detections, float32[batch, N, 6] with x1, y1, x2, y2, confidence and class id. Its other "
    "outputs stay.",
)


@dataclass(frozen=True)
class Specification:
    """The description of a format, with which an API offers it and validates requests before a job starts.

    ``options`` are the format's own, SOURCE_OPTIONS, and those of embedding if it ``embeds``. ``check``
    raises UnsupportedOption for combinations of options that are invalid. ``fixes_sizes``: it has no dynamic
    axes. ``runs_on``: the only platform that can execute it, and therefore verify it; None: any platform that
    converts it.
    """

    name: str
    extension: str
    options: Mapping[str, Option]
    check: Callable[[Mapping[str, Any]], None] | None = None
    embeds: bool = False
    fixes_sizes: bool = False
    runs_on: str | None = None

    def __post_init__(self) -> None:
        embed = {
            "embed_preprocessing": EMBED_PREPROCESSING,
            "embed_postprocessing": EMBED_POSTPROCESSING,
        }
        object.__setattr__(
            self, "options", {**self.options, **(embed if self.embeds else {}), **SOURCE_OPTIONS}
        )

    def validate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``options`` with the defaults filled in.

        Raises:
            UnsupportedOption: an unknown name, or a value of the wrong type or outside its range.
        """
        complete = completed(self.name, self.options, options)
        if self.check is not None:
            self.check(complete)
        return complete

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "extension": self.extension,
            "options": {name: option.explain() for name, option in self.options.items()},
        }


def completed(owner: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``given`` with the defaults of ``known`` filled in. ``owner`` has these options, for messages.

    Raises:
        UnsupportedOption: an unknown name, or a value of the wrong type or outside its range.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        close = get_close_matches(unknown[0], known, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise UnsupportedOption(
            f"{owner} has no option {unknown[0]!r}.{meant} Its options: {', '.join(sorted(known))}.",
            allowed=sorted(known),
            option=unknown[0],
        )
    for name, value in given.items():
        option = known[name]
        if not option.accepts(value):
            raise UnsupportedOption(
                f"{name} must be {_wanted(option)}, not {json.dumps(value)[:80]}{option.why_not(value)}.",
                allowed=option.explain(),
                option=name,
            )
    return {name: given.get(name, option.default) for name, option in known.items()}


def _wanted(option: Option) -> str:
    also = "".join(f", or {json.dumps(value)}" for value in option.also)
    if option.allowed is None:
        return "true or false" if option.type == "boolean" else with_article(option.type) + also
    if option.type in ("integer", "number"):
        return f"{with_article(option.type)} from {option.allowed[0]} to {option.allowed[1]}{also}"
    return f"one of {', '.join(map(str, option.allowed))}{also}"


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aio' else 'a'} {noun}"
