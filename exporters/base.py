"""What every format and every source has in common. Nothing here needs a framework to be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .errors import UnsupportedOption

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Arrays: TypeAlias = "dict[str, npt.NDArray[np.generic]]"

# The verdict of fidelity.json.
VERIFIED = "verified"
FAILED = "failed"
NOT_EXECUTED = (
    "converted_not_executed"  # the artefact cannot run where it was made: nobody knows whether it is right
)

# What a converter finds in ``Source.program``.
PROGRAM = "program"  # a torch.export.ExportedProgram
SCRIPT = "script"  # a torch.jit.ScriptModule
ONNX = "onnx"  # the path of an ONNX file
ESTIMATOR = "estimator"  # a fitted scikit-learn, XGBoost or LightGBM estimator

# The kinds of checkpoints, and as what each is loaded.
FAMILIES = {
    "pt2": PROGRAM,
    "torchscript": SCRIPT,
    "state_dict": PROGRAM,
    "huggingface": PROGRAM,
    "ultralytics": PROGRAM,
    "torch_pickle": PROGRAM,
    "sklearn": ESTIMATOR,
    "xgboost": ESTIMATOR,
    "lightgbm": ESTIMATOR,
    "onnx": ONNX,
}

Progress = Callable[[str, float, str], None]
"""``progress(step, percent, message)``; percent runs from 0 to 100 over the whole export."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. An integer in ``shape`` is fixed; a name is chosen by the caller at run time."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        return cls(data["name"], data["dtype"], tuple(data["shape"]))


@dataclass(frozen=True)
class Dimension:
    """How far a dynamic axis may go. ``maximum`` None: as far as memory does."""

    minimum: int = 1
    maximum: int | None = None
    example: int | None = None  # the size the author traced with: one that is known to make sense

    def allows(self, size: int) -> bool:
        return self.minimum <= size and (self.maximum is None or size <= self.maximum)


@dataclass(frozen=True)
class Case:
    """Inputs, and what the source model answers to them."""

    name: str
    inputs: Arrays
    expected: Arrays


@dataclass(frozen=True)
class Source:
    """A model loaded from an untrusted file, ready to be converted and to be compared with.

    ``reference`` runs it as its author wrote it: eager, eval mode, no gradient. ``shapes`` gives the
    concrete shape of every input for a choice of sizes of ``dimensions``; an axis may depend on one
    (``2*seq``). ``kind`` is one of FAMILIES, ``family`` what it was loaded as.
    """

    kind: str
    family: str
    program: Any
    inputs: tuple[TensorSpec, ...]
    dimensions: Mapping[str, Dimension]
    symbols: Mapping[str, str]  # the framework's name of a dimension → ours
    reference: Callable[[Arrays], Arrays]  # names its outputs, in the order the model returns them
    shapes: Callable[[Mapping[str, int]], dict[str, tuple[int, ...]]]
    integers: Mapping[str, tuple[int, int]]  # per integer input: smallest and largest sensible value
    classes: tuple[str, ...] | None = None  # what the model's scores are of, where its checkpoint says so
    attachments: tuple[
        Path, ...
    ] = ()  # files that who uses the model needs too: a tokenizer's, a processor's
    probes: tuple[Arrays, ...] = ()  # inputs that tell more of this model than random ones
    preprocessing: Mapping[str, Any] | None = (
        None  # what its checkpoint declares, for a request that does not
    )
    postprocessing: Mapping[str, Any] | None = None

    def output_specs(self, case: Case) -> tuple[TensorSpec, ...]:
        """The outputs as a case shows them; the batch is named where the inputs' is."""
        batched = next((spec.name for spec in self.inputs if spec.shape and spec.shape[0] == "batch"), None)
        rows = case.inputs[batched].shape[0] if batched else None
        return tuple(
            TensorSpec(
                name,
                str(array.dtype),
                tuple(
                    "batch" if axis == 0 and size == rows else size for axis, size in enumerate(array.shape)
                ),
            )
            for name, array in case.expected.items()
        )


@dataclass(frozen=True)
class Option:
    """``allowed``: for an integer its (smallest, largest); for anything else the values, or None for any.

    ``refused``: values that the field knows and this format does not offer, and why not.
    """

    type: Literal["integer", "boolean", "string", "object", "array"]
    default: Any
    description: str
    allowed: tuple[Any, ...] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)

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
        if self.type == "integer":
            if not isinstance(value, int) or isinstance(value, bool):
                return False
            return self.allowed is None or self.allowed[0] <= value <= self.allowed[1]
        wanted = {"boolean": bool, "string": str, "object": dict, "array": list}[self.type]
        return isinstance(value, wanted) and (self.allowed is None or value in self.allowed)

    def why_not(self, value: Any) -> str:
        given = value if isinstance(value, list) else [value]
        reasons = [reason for name, reason in self.refused.items() if name in given]
        return f": {reasons[0]}" if reasons else ""


# Of every format: what a checkpoint does not say of itself.
SOURCE_OPTIONS: Mapping[str, Option] = {
    "inputs": Option(
        "array",
        None,
        "Of a checkpoint that does not record its inputs: "
        '[{"name": "input", "shape": ["batch", 3, 224, 224], "dtype": "float32"}]; a name in a shape is an '
        "axis of any size.",
    ),
    "architecture": Option(
        "string",
        None,
        "Of a checkpoint that has the weights alone: timm:NAME, hf:config.json beside it, or module:Class of "
        "a package that the operator allows.",
    ),
}


# Of formats whose graph can hold the declared preprocessing.
EMBED_PREPROCESSING = Option(
    "boolean",
    False,
    "Put the declared preprocessing of an image, but for its resize, and a classifier's softmax into the "
    "graph: it then takes uint8[batch, height, width, 3] of RGB.",
)


@dataclass(frozen=True)
class Specification:
    """What a format is: enough for an API to offer it and to refuse a wrong request before a job starts.

    ``options`` are the format's own, SOURCE_OPTIONS, and embed_preprocessing where it ``embeds``; ``check``
    raises UnsupportedOption for what no single option can say of itself.
    """

    name: str
    extension: str
    options: Mapping[str, Option]
    check: Callable[[Mapping[str, Any]], None] | None = None
    embeds: bool = False

    def __post_init__(self) -> None:
        embed = {"embed_preprocessing": EMBED_PREPROCESSING} if self.embeds else {}
        object.__setattr__(self, "options", {**self.options, **embed, **SOURCE_OPTIONS})

    def validate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` with the defaults filled in.

        Raises:
            UnsupportedOption: an unknown name, or a value of the wrong type or outside its range.
        """
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UnsupportedOption(
                f"{self.name} has no option {unknown[0]!r}; it takes {', '.join(sorted(self.options))}.",
                allowed=sorted(self.options),
                option=unknown[0],
            )
        for name, value in options.items():
            option = self.options[name]
            if not option.accepts(value):
                raise UnsupportedOption(
                    f"{name} takes {_wanted(option)}, not {json.dumps(value)[:80]}{option.why_not(value)}.",
                    allowed=option.explain(),
                    option=name,
                )
        complete = {name: options.get(name, option.default) for name, option in self.options.items()}
        if self.check is not None:
            self.check(complete)
        return complete

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "extension": self.extension,
            "options": {name: option.explain() for name, option in self.options.items()},
        }


def _wanted(option: Option) -> str:
    if option.allowed is None:
        return "true or false" if option.type == "boolean" else _a(option.type)
    if option.type == "integer":
        return f"an integer from {option.allowed[0]} to {option.allowed[1]}"
    return f"one of {', '.join(map(str, option.allowed))}"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aio' else 'a'} {noun}"


@dataclass(frozen=True)
class Artefact:
    """What a conversion left in its folder. ``files`` are names in it, the one to open first.

    ``precision`` is what it computes in, of ``verify.TOLERANCES``; None: what its source computes in.
    ``stand_in`` is the format as which the first file is compared where its own cannot run.
    """

    files: tuple[str, ...]
    converter: str
    details: dict[str, Any] = field(default_factory=dict)
    precision: str | None = None
    stand_in: str | None = None


class Exporter(Protocol):
    """One way to one format. A module that has these names is one; ``registry`` lists them.

    Several modules may lead to a format, from different families of sources: they share its SPECIFICATION.
    A module may have more, which ``registry`` asks for: ``requires(options)``, the modules that an export
    with these options imports, in place of REQUIRES; ``ADVICE``, what to do where they are missing;
    ``NOT_OF``, families whose ONNX has operators that the format lacks: no way leads from there by ONNX; and
    ``presented(source, options)``, the source as the artefact presents it where the options make that
    another one: narrower ranges of dynamic axes, or another order of colours.
    """

    SPECIFICATION: Specification
    TAKES: tuple[str, ...]  # families of sources
    REQUIRES: tuple[str, ...]  # the modules that its conversion and its runner import

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        """The converters worth trying, best first; the next is tried when verification fails.

        Raises:
            UnsupportedOption: the options contradict the source.
        """

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write the artefact into ``folder``, traced on ``example``. Equal inputs give equal bytes.

        Raises:
            ConversionFailed: this converter cannot do it.
        """


@dataclass(frozen=True)
class Trust:
    """What the operator lets a checkpoint do while it is loaded: nothing, unless it is said."""

    unsafe_checkpoints: bool = False  # unpickle what no allow-list knows
    modules: tuple[str, ...] = ()  # import classes of these packages as architectures


@dataclass(frozen=True)
class ExportRequest:
    """One conversion. ``model`` is for metadata.json: name, version, framework, task_type, checksum."""

    source: Path
    output_dir: Path
    format: str
    options: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    classes: list[str] | None = None
    preprocessing: dict[str, Any] | None = None
    postprocessing: dict[str, Any] | None = None
    sample_inputs: Path | None = None
    limits: dict[str, int] | None = None
    allow_unsafe: bool = False
    allowed_modules: list[str] | None = None

    @property
    def trust(self) -> Trust:
        return Trust(self.allow_unsafe, tuple(self.allowed_modules or ()))

    @classmethod
    def from_json(cls, data: Any) -> ExportRequest:
        """Raises UnsupportedOption for a missing or unknown field, or a field of the wrong type."""
        known = [f.name for f in fields(cls)]
        if not isinstance(data, dict):
            raise UnsupportedOption("The request is not a JSON object.", allowed=known)
        for name in data:
            if name not in known:
                raise UnsupportedOption(f"The request has an unknown field {name!r}.", allowed=known)
        for name in ("source", "output_dir", "format"):
            if not isinstance(data.get(name), str) or not data[name]:
                raise UnsupportedOption(f"The request needs {name!r}, a text.", allowed=known)
        for name, kind in _FIELD_TYPES.items():
            if data.get(name) is not None and not isinstance(data[name], kind):
                raise UnsupportedOption(
                    f"The request's {name!r} is not {_a(_JSON_NAMES[kind])}.", allowed=known
                )
        for name in ("classes", "allowed_modules"):
            if not all(isinstance(item, str) for item in data.get(name) or []):
                raise UnsupportedOption(f"The request's {name!r} is not a list of texts.", allowed=known)
        return cls(
            source=Path(data["source"]),
            output_dir=Path(data["output_dir"]),
            format=data["format"],
            options=data.get("options") or {},
            model=data.get("model") or {},
            classes=data.get("classes"),
            preprocessing=data.get("preprocessing"),
            postprocessing=data.get("postprocessing"),
            sample_inputs=Path(data["sample_inputs"]) if data.get("sample_inputs") else None,
            limits=data.get("limits"),
            allow_unsafe=data.get("allow_unsafe") or False,
            allowed_modules=data.get("allowed_modules"),
        )

    def to_json(self) -> dict[str, Any]:
        paths = {"source": str(self.source), "output_dir": str(self.output_dir)}
        samples = str(self.sample_inputs) if self.sample_inputs else None
        return {**asdict(self), **paths, "sample_inputs": samples}


_FIELD_TYPES: dict[str, type] = {
    "options": dict,
    "model": dict,
    "classes": list,
    "preprocessing": dict,
    "postprocessing": dict,
    "sample_inputs": str,
    "limits": dict,
    "allow_unsafe": bool,
    "allowed_modules": list,
}
_JSON_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean"}


@dataclass(frozen=True)
class ExportResult:
    """What an export made. ``performance`` is measured, so it is not among the package's equal bytes."""

    package_dir: Path
    format: str
    verdict: str
    converter: str
    artefact: str
    artefact_size_bytes: int
    options: dict[str, Any]
    fidelity: dict[str, Any]
    performance: dict[str, float]
    steps_s: dict[str, float]
    environment: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "package_dir": str(self.package_dir)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExportResult:
        return cls(**{**data, "package_dir": Path(data["package_dir"])})
