"""The teacher of a distillation: it is loaded like any untrusted model, and computes each row once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import sources
from ..base import Source, copied
from ..datasets.schema import DatasetFile
from ..errors import ExportError, InvalidDataset, UnsupportedOption
from ..options import SOURCE_OPTIONS, completed
from ..proof import data as proof_data
from ..request import ExportRequest
from .base import Teacher
from .config import learns_labels
from .training import READ_ROWS, Examples, require_room

_KEYS = ("path", "name", "version", "checksum")


def path_of(given: Any) -> Path:
    """Return the path of a teacher that a request describes.

    Raises:
        UnsupportedOption: the description has another form.
    """
    if (
        not isinstance(given, Mapping)
        or not set(given) <= set(_KEYS)
        or not all(value is None or isinstance(value, str) for value in given.values())
        or not given.get("path")
    ):
        raise UnsupportedOption(
            f"teacher must be an object of strings with the keys {', '.join(_KEYS)}; path is required.",
            allowed=list(_KEYS),
            option="teacher",
        )
    return Path(given["path"])


def load(request: ExportRequest, config: Mapping[str, Any], student: Source, file: DatasetFile) -> Teacher:
    """Load the teacher of a distillation, and open its rows.

    Args:
        config: the section ``distillation``.
        file: the training dataset.

    Raises:
        ExportError: as for loading a source; or its inputs do not fit the dataset.
        UnsupportedOption: its classes are not the network's.
    """
    given = (request.optimization or {})["teacher"]
    with _of_teacher():
        options = completed("teacher_config", SOURCE_OPTIONS, config["teacher_config"])
        source = sources.load(path_of(given), options, request.trust)
        dataset = proof_data.for_source(
            file,
            source,
            task_type=request.model.get("task_type"),
            preprocessing=request.preprocessing,
            classes=request.classes,
            labelled=learns_labels(config),
        )
    own = list(request.classes or student.classes or ())
    if own and source.classes and own != list(source.classes):
        raise UnsupportedOption(
            f"The teacher's classes are {_listed(source.classes)}, and the network's {_listed(own)}. Choose "
            "a teacher with the same classes in the same order.",
            allowed=own,
            option="teacher_model_id",
        )
    return Teacher(source, dataset, {name: given.get(name) for name in _KEYS if name != "path"})


def taught(data: Examples, teacher: Teacher, shape: tuple[int, ...]) -> Examples:
    """Return the examples with the teacher's outputs.

    Args:
        shape: of a row of the network's first output.

    Raises:
        InvalidDataset: the outputs are too large for the memory, or not finite.
        UnsupportedOption: the teacher's outputs have another shape.
    """
    found, numbers = [], []
    for batch in teacher.dataset.batches(READ_ROWS, at_most=len(data), seed=data.seed):
        output = _first(teacher.source, batch.inputs)[: len(batch)]
        if len(output) != len(batch) or output.shape[1:] != shape:
            raise UnsupportedOption(
                f"The teacher returns [rows{_axes(output.shape[1:])}], and the network [rows{_axes(shape)}]. "
                "Choose a teacher whose first output has the same shape.",
                allowed=list(shape),
                option="teacher_model_id",
            )
        if output.dtype.kind != "f":
            raise UnsupportedOption(
                f"The teacher's first output has the dtype {output.dtype}: choose a teacher that returns "
                "floating-point numbers.",
                allowed=["float32"],
                option="teacher_model_id",
            )
        require_room(len(data), output.nbytes // len(output))
        found.append(output)
        numbers.append(batch.rows)
    targets = np.concatenate(found)
    if not np.isfinite(targets).all():
        raise InvalidDataset("The teacher returns NaN or infinity for rows of the training dataset.")
    assert data.numbers is not None
    if not np.array_equal(np.concatenate(numbers), data.numbers):
        raise InvalidDataset("The teacher and the network read other rows of the training dataset.")
    return replace(data, targets=targets)


def _first(source: Source, inputs: Any) -> npt.NDArray[Any]:
    """Return the first output; for a classifier with labels, its scores."""
    outputs = source.reference(copied(inputs))
    name = next((labels.scores for labels in source.labels.values()), next(iter(outputs)))
    return np.asarray(outputs[name])


@contextmanager
def _of_teacher() -> Iterator[None]:
    """Say in errors that they are those of the teacher."""
    try:
        yield
    except ExportError as exc:
        raise type(exc)(f"The teacher cannot be used: {exc.message}", **exc.details) from exc


def _axes(shape: tuple[int, ...]) -> str:
    return "".join(f", {size}" for size in shape)


def _listed(names: Any) -> str:
    return ", ".join(names)[:200]
