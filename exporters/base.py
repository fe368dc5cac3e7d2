"""What every format and every source has in common. Nothing here needs a framework to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from .options import Specification

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

EMPTY = "empty"  # the class of a case with a batch of no rows

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

# What is imported to load a checkpoint of each kind. timm is none, but its networks come as several of them.
LIBRARIES = {
    "pt2": ("torch",),
    "torchscript": ("torch",),
    "state_dict": ("torch", "safetensors.torch"),
    "huggingface": ("torch", "safetensors.torch", "transformers.models.auto.modeling_auto"),
    "timm": ("torch", "safetensors.torch", "timm"),
    "ultralytics": ("torch", "ultralytics.nn.tasks"),
    "torch_pickle": ("torch",),
    "sklearn": ("sklearn", "joblib", "skops.io"),
    "xgboost": ("sklearn", "joblib", "xgboost"),
    "lightgbm": ("sklearn", "joblib", "lightgbm"),
    "onnx": ("onnx", "onnxruntime"),
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
    """The sizes of a dynamic axis. ``maximum`` None: as far as memory allows."""

    minimum: int = 1
    maximum: int | None = None
    example: int | None = None  # the size the author traced with: one that is known to make sense
    multiple: int = 1  # every size is a multiple of it

    def allows(self, size: int) -> bool:
        return (
            self.minimum <= size
            and (self.maximum is None or size <= self.maximum)
            and size % self.multiple == 0
        )


@dataclass(frozen=True)
class Case:
    """Inputs, and what the source model answers to them.

    ``kind`` is the class of probes that the inputs belong to: ``base``, ``sizes``, ``samples``, or one of the
    source's own, like ``boundary`` and ``missing``. fidelity.json reports each class by itself.
    """

    name: str
    inputs: Arrays
    expected: Arrays
    kind: str = "base"


@dataclass(frozen=True)
class Labels:
    """What an output int64[N] is: of every row the class that scores best."""

    scores: str  # the output, float[N, classes]
    classes: tuple[int, ...]  # the label of each of its columns


Derived: TypeAlias = "Mapping[str, Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[Any]]]"


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
    # The integer inputs whose values end there: rows of a table that is looked up in, flags of a mask.
    bounded: frozenset[str] = frozenset()
    # Values of inputs that are shapes, axes and the like, where only some make sense.
    values: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    operators: frozenset[str] = frozenset()  # of a network, as its framework names them, in small letters
    steps: tuple[float, ...] = ()  # the constant scales of its quantizers
    samples: Arrays | None = None  # inputs that the model's owner stored with it, checked against ``inputs``
    classes: tuple[str, ...] | None = None  # what the model's scores are of, where its checkpoint says so
    attachments: tuple[
        Path, ...
    ] = ()  # files that who uses the model needs too: a tokenizer's, a processor's
    table: Any = None  # sources.tables.Table of an estimator whose columns have names
    texts: Any = None  # sources.texts.Texts of an estimator that takes texts
    missing: bool = False  # whether NaN is a missing value to it, not a number gone wrong
    # Inputs of these shapes, seeded, where standard normal ones mean nothing to the model.
    draw: Callable[[Mapping[str, tuple[int, ...]], int], Arrays] | None = None
    # Inputs that tell more of this model than random ones, by class, typical ones first; made on demand.
    probes: Callable[[], Iterable[tuple[str, Arrays]]] = tuple
    coverage: Mapping[str, int] = field(default_factory=dict)  # what the probes reach, once they are made
    preprocessing: Mapping[str, Any] | None = (
        None  # what its checkpoint declares, for a request that does not
    )
    postprocessing: Mapping[str, Any] | None = None
    labels: Mapping[str, Labels] = field(default_factory=dict)  # outputs that are what their scores say
    # Outputs, float[N, columns], whose columns have units of their own, as a transformer's.
    units: frozenset[str] = frozenset()
    run_by: str = "the source model in eager mode"  # what ``reference`` is, for fidelity.json
    # Outputs, float[N, rows, values], that follow from the others: of an artefact, from its own.
    derived: Derived = field(default_factory=dict)

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
