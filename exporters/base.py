"""The types that all formats and sources share. Importing this module imports no framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from .options import Specification

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Arrays: TypeAlias = "dict[str, npt.NDArray[np.generic]]"


def copied(arrays: Mapping[str, npt.NDArray[np.generic]]) -> Arrays:
    """Return arrays that a model may write to: some networks and estimators change their inputs in place."""
    return {name: array.copy() for name, array in arrays.items()}


# The verdicts of fidelity.json.
VERIFIED = "verified"
FAILED = "failed"
NOT_EXECUTED = (
    # The artefact cannot run where it was created, so it is not known whether it is right
    "converted_not_executed"
)

EMPTY = "empty"  # the class of a case with a batch of no rows

# The families of sources: the type of ``Source.program``.
PROGRAM = "program"  # a torch.export.ExportedProgram
SCRIPT = "script"  # a torch.jit.ScriptModule
ONNX = "onnx"  # the path of an ONNX file
ESTIMATOR = "estimator"  # a fitted scikit-learn, XGBoost or LightGBM estimator

# The kinds of checkpoints, and the family as which each is loaded.
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

# The modules imported to load each kind of checkpoint. timm has no kind: its networks come as several kinds.
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

StepEnded = Callable[[str, int, float, bool], None]
"""``step_ended(step, began_ns, seconds, failed)``; ``began_ns``: since 1970."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. An integer in ``shape`` is fixed.

    For a name, the caller chooses the size at run time.
    """

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
    """The sizes of a dynamic axis. ``maximum`` None: limited by memory only."""

    minimum: int = 1
    maximum: int | None = None
    example: int | None = None  # the size that the author traced with, which is known to work
    multiple: int = 1  # every size is a multiple of it

    def allows(self, size: int) -> bool:
        return (
            self.minimum <= size
            and (self.maximum is None or size <= self.maximum)
            and size % self.multiple == 0
        )


@dataclass(frozen=True)
class Case:
    """Inputs, and the source model's outputs for them.

    ``kind`` is the class of probes that the inputs belong to: ``base``, ``sizes``, ``samples``, or one of the
    source's own, like ``boundary`` and ``missing``. fidelity.json reports each class separately.
    """

    name: str
    inputs: Arrays
    expected: Arrays
    kind: str = "base"


@dataclass(frozen=True)
class Labels:
    """An output int64[N] that holds, for every row, the class with the best score."""

    scores: str  # the output, float[N, classes]
    classes: tuple[int, ...]  # the label of each of its columns


Derived: TypeAlias = "Mapping[str, Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[Any]]]"


@dataclass(frozen=True)
class Source:
    """A model loaded from an untrusted file, for conversion and as the reference of comparisons.

    ``reference`` runs it as its author wrote it: eager, eval mode, no gradient. ``shapes`` returns the
    concrete shape of every input for chosen sizes of ``dimensions``; an axis may be computed from one
    (``2*seq``). ``kind`` is one of FAMILIES, ``family`` the family as which it was loaded.
    """

    kind: str
    family: str
    program: Any
    inputs: tuple[TensorSpec, ...]
    dimensions: Mapping[str, Dimension]
    symbols: Mapping[str, str]  # the framework's name of a dimension → the name used here
    reference: Callable[[Arrays], Arrays]  # returns the outputs by name, in the order of the model
    shapes: Callable[[Mapping[str, int]], dict[str, tuple[int, ...]]]
    integers: Mapping[str, tuple[int, int]]  # per integer input: smallest and largest sensible value
    # The integer inputs whose values are limited by that: rows of a table, flags of a mask.
    bounded: frozenset[str] = frozenset()
    # Fixed values of inputs that are shapes, axes and the like, for which random values fail.
    values: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    operators: frozenset[str] = frozenset()  # of a network, with its framework's names in lower case
    steps: tuple[float, ...] = ()  # the constant scales of its quantizers
    samples: Arrays | None = None  # inputs that the model's owner stored with it, checked against ``inputs``
    # The names of the classes of the scores, if the checkpoint has them
    classes: tuple[str, ...] | None = None
    attachments: tuple[Path, ...] = ()  # files that users of the model need too: a tokenizer's, a processor's
    table: Any = None  # sources.tables.Table of an estimator whose columns have names
    texts: Any = None  # sources.texts.Texts of an estimator that takes texts
    missing: bool = False  # whether NaN is a missing value in its inputs, and not an error
    # Seeded inputs of these shapes, if standard normal ones are unsuitable for the model.
    draw: Callable[[Mapping[str, tuple[int, ...]], int], Arrays] | None = None
    # Inputs that test this model better than random ones, by class, typical ones first; created on demand.
    probes: Callable[[], Iterable[tuple[str, Arrays]]] = tuple
    # The coverage of the probes, once they are created
    coverage: Mapping[str, int] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] | None = (
        None  # the declaration of its checkpoint, for a request without one
    )
    postprocessing: Mapping[str, Any] | None = None
    # Outputs that hold the class with the best score
    labels: Mapping[str, Labels] = field(default_factory=dict)
    # Outputs, float[N, columns], whose columns have units of their own, like a transformer's.
    units: frozenset[str] = frozenset()
    run_by: str = "the source model in eager mode"  # description of ``reference`` for fidelity.json
    # Outputs, float[N, rows, values], computed from other outputs; an artefact's from its own.
    derived: Derived = field(default_factory=dict)

    def output_specs(self, case: Case) -> tuple[TensorSpec, ...]:
        """Return the outputs' specifications from a case; the batch axis is named if the inputs' is."""
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
    """The result of a conversion. ``files`` are names in its folder; the first one is the one to open.

    ``precision`` is the precision that it computes in, a key of ``verify.TOLERANCES``; None: its source's.
    ``stand_in`` is the format as which the first file is compared if its own format cannot run.
    """

    files: tuple[str, ...]
    converter: str
    details: dict[str, Any] = field(default_factory=dict)
    precision: str | None = None
    stand_in: str | None = None


class Exporter(ABC):
    """A conversion to one format, ``EXPORTER`` of its module, which ``registry`` lists.

    Several exporters may convert to one format, from different families of sources: they share its
    specification. No framework is imported outside of the methods.
    """

    specification: ClassVar[Specification]
    takes: ClassVar[tuple[str, ...]]
    """Families of sources."""
    modules: ClassVar[tuple[str, ...]]
    """What the conversion and its runner import."""
    not_of: ClassVar[tuple[str, ...]] = ()
    """Families whose ONNX has operators that the format lacks: they are not converted through ONNX."""
    advice: ClassVar[str] = "pip install 'model-service[formats]'."
    """How to install missing modules."""

    def requires(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules that an export with these options imports, instead of ``modules``."""
        return self.modules

    def presented(self, source: Source, options: Mapping[str, Any]) -> Source:
        """Return the source as the artefact presents it, for the comparison.

        Options may narrow the ranges of dynamic axes, or change the order of colours.

        Raises:
            UnsupportedOption: the options contradict the source.
        """
        return source

    @abstractmethod
    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        """Return the converters to try, best first; the next one is tried if verification fails.

        Raises:
            UnsupportedOption: the options contradict the source.
        """

    @abstractmethod
    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write the artefact into ``folder``, traced on ``example``. Equal inputs give equal bytes.

        Raises:
            ConversionFailed: this converter cannot do it.
        """
