"""The types of optimisation techniques. Importing this module imports no framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..base import Arrays, Artefact, Case, Source
from ..errors import UnsupportedOption
from ..options import Option

if TYPE_CHECKING:
    from ..datasets.base import Dataset
    from .training import Trainings

PRUNING = "pruning"
DISTILLATION = "distillation"
QUANTIZATION = "quantization"
SECTIONS = (PRUNING, DISTILLATION, QUANTIZATION)
"""The sections of ``optimization_config``, in the order in which they are applied."""

CALIBRATION, TRAINING, TEACHER = "calibration", "training", "teacher"
"""What a technique reads beside the model: datasets, and a model."""
ROLES = (CALIBRATION, TRAINING)
"""Beside the sections: descriptions of datasets in the form of ``exporters.datasets.DatasetFile``."""

# The formats whose conversion starts from a network of torch.
_OF_NETWORKS = ("onnx", "openvino", "tflite", "coreml", "tensorrt", "torchscript", "pt2", "pytorch")


@dataclass(frozen=True)
class Rung:
    """A recipe that ``"optimize": "auto"`` tries, in the order of ``position``.

    ``fields``: of the technique's section. ``unless``: recipes of which none is larger or slower; if one of
    them keeps the accuracy, this one is not tried.
    """

    name: str
    position: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    unless: tuple[str, ...] = ()


class Technique(ABC):
    """One method of a section, ``TECHNIQUE`` of its module, which ``registry`` lists."""

    section: ClassVar[str]
    method: ClassVar[str]
    fields: ClassVar[Mapping[str, Option]]
    """The fields of its section, beside ``method``."""
    reads: ClassVar[tuple[str, ...]] = ()
    """What it needs: ``calibration``, ``training``, ``teacher``."""
    optional: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """What it can use: ``training``; with the fields that a configuration without it does not have."""

    @abstractmethod
    def why_not(self, format_name: str) -> str | None:
        """Return why the format does not support it, as a sentence; None if it does."""

    def options(self, format_name: str) -> Mapping[str, Any]:
        """Return the format's own options that do it; empty if it is a step of its own."""
        return {}

    def combines(self, format_name: str) -> Mapping[str, tuple[Any, ...]]:
        """Return the format's options that it depends on, with the values that it can be combined with."""
        return {}

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:  # noqa: B027 - most need no check
        """Check a combination of fields. ``config`` is complete. Raises UnsupportedOption."""

    def needs(self, format_name: str) -> tuple[str, ...]:
        """Return the modules that it imports, beyond those of the format."""
        return ()

    def rungs(self, format_name: str) -> tuple[Rung, ...]:
        """Return the recipes of the technique for a format that supports it."""
        return ()


@dataclass(frozen=True)
class Teacher:
    """Another model, whose outputs a network learns. ``dataset``: the training rows as its inputs.

    ``described``: name, version and checksum, for the report.
    """

    source: Source
    dataset: Dataset
    described: Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """The rows that a network is trained on. ``run`` runs the trainings of the export in turn."""

    dataset: Dataset
    teacher: Teacher | None
    run: Trainings


class SourceTechnique(Technique):
    """Changes the network before the conversion. The artefact is compared with the changed network."""

    reported_as: ClassVar[str]
    """The field of the report for what was changed."""

    def why_not(self, format_name: str) -> str | None:
        if format_name in _OF_NETWORKS:
            return None
        return f"Only networks of torch can be pruned or trained; {format_name} is for other models."

    @abstractmethod
    def trainings(self, config: Mapping[str, Any]) -> int:
        """Return how often it trains the network."""

    @abstractmethod
    def change(
        self, source: Source, config: Mapping[str, Any], training: Training | None
    ) -> tuple[Source, dict[str, Any]]:
        """Return the changed source, and what was changed.

        Args:
            training: None if ``trainings`` is 0.

        Raises:
            InvalidDataset: the rows cannot be trained on.
            OptimizationFailed: the request was not reached, or a training diverged.
            UnsupportedOption: this kind of source, or the dataset's task, cannot be changed so.
        """


@dataclass(frozen=True)
class Step:
    """The optimisation of an artefact that agrees with its source. ``folder``: for the result's files."""

    path: Path  # the artefact's primary file
    artefact: Artefact
    source: Source
    example: Case
    config: Mapping[str, Any]
    options: Mapping[str, Any]  # of the format
    data: Data | None  # None only for techniques that need no calibration
    folder: Path

    def result(self, files: tuple[str, ...], computes_in: str, **details: Any) -> Artefact:
        """Return the description of the optimised artefact. ``computes_in``: see ``Artefact.precision``."""
        method = self.config["method"]
        own = {**self.artefact.details, **details, "quantization": method}
        return Artefact(files, f"{self.artefact.converter}+{method}", own, computes_in)


class Data(Protocol):
    """A dataset as techniques use it: inputs that fit the artefact, and the judgement of an artefact."""

    def inputs(self, samples: int) -> Iterator[Arrays]:
        """Yield up to ``samples`` rows in batches that the artefact accepts, the same ones each time."""

    def drop(self, predict: Callable[[Arrays], Arrays]) -> float:
        """Return by how much the main metric is worse than the source's."""

    @property
    def allowed_drop(self) -> float: ...


@dataclass(frozen=True)
class Batches:
    """Calibration inputs for quantizers that read them several times."""

    data: Data
    samples: int

    def __iter__(self) -> Iterator[Arrays]:
        return self.data.inputs(self.samples)


class ArtefactTechnique(Technique):
    """Changes the artefact after it was compared with its source. It is judged on the data of a dataset."""

    steps: ClassVar[Mapping[str, str]] = {}
    """Format → module with ``apply(step) -> (Artefact, report)``."""
    by_option: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Format → its options that have the same effect."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Format → why it does not support the technique."""
    only: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Field → the formats whose quantizer has it; the others keep its default."""
    beside: ClassVar[Mapping[str, Mapping[str, tuple[Any, ...]]]] = {}
    """Format → option → the values that the technique can be combined with."""
    modules: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def why_not(self, format_name: str) -> str | None:
        if format_name in self.steps or format_name in self.by_option:
            return None
        return self.refused.get(
            format_name,
            f"{format_name} has no {self.method} quantization here; it is supported for "
            f"{', '.join((*self.steps, *self.by_option))}.",
        )

    def options(self, format_name: str) -> Mapping[str, Any]:
        return self.by_option.get(format_name, {})

    def combines(self, format_name: str) -> Mapping[str, tuple[Any, ...]]:
        return self.beside.get(format_name, {})

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedOption for a field that the format's quantizer does not have."""
        for name, formats in self.only.items():
            default = self.fields[name].default
            if config[name] != default and format_name not in formats:
                raise UnsupportedOption(
                    f"{name} cannot be set for {self.method} quantization to {format_name}, only to "
                    f"{' and '.join(formats)}. Remove it.",
                    allowed=[default],
                    option=name,
                )

    def needs(self, format_name: str) -> tuple[str, ...]:
        return self.modules.get(format_name, ())

    def apply(self, format_name: str, step: Step) -> tuple[Artefact, dict[str, Any]]:
        """Write the optimised artefact into ``step.folder``; return it and what was changed.

        Raises:
            OptimizationFailed: the request was not reached.
        """
        module: Any = import_module(self.steps[format_name])
        result: tuple[Artefact, dict[str, Any]] = module.apply(step)
        return result
