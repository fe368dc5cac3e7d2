"""Datasets for validation, evaluation and calibration: one module per kind of file, and what they share.

A dataset's file is untrusted. No loader unpickles, writes a file, or holds a whole file in memory.
Importing this package needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..base import Arrays, TensorSpec
from . import schema
from .schema import DatasetFile

if TYPE_CHECKING:
    from .base import Dataset
    from .reader import Reader


def open_dataset(
    file: DatasetFile,
    inputs: Sequence[TensorSpec],
    *,
    task_type: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    labelled: bool = True,
    missing: bool = False,
    columns: Sequence[str] | None = None,
    encode: Callable[[Arrays], Arrays] | None = None,
) -> Dataset:
    """Open a dataset for a model.

    Args:
        inputs: of the model. The first axis of each counts the rows; if it is a number, that is the size of
            every batch.
        task_type: the model's; used if the dataset has none.
        preprocessing: the model's declaration, applied to images.
        classes: the names of the model's classes. Labels are converted to positions in this list.
        labelled: whether a label is required. Calibration needs none.
        missing: whether NaN is a missing value in the inputs.
        columns: the columns that the model's table declares.
        encode: converts named columns or texts to the model's inputs, for models that need it.

    Raises:
        InvalidDataset: the file cannot be read, or does not fit the model. Later rows are checked as
            ``Dataset.batches`` reads them.
        UnsupportedOption: an invalid schema, or a format that no loader reads.
    """
    from .base import Dataset
    from .fit import Needs

    needs = Needs(
        tuple(inputs), task_type, preprocessing, classes, labelled, missing, tuple(columns or ()), encode
    )
    return Dataset(file, open_reader(file), needs)


def inspect(file: DatasetFile) -> dict[str, Any]:
    """Describe the file without a model; see ``inspection.inspect``."""
    from . import inspection

    return inspection.inspect(file)


def open_reader(file: DatasetFile) -> Reader:
    """Open the file, without a model. Raises as ``open_dataset``."""
    schema.check_format(file.format)
    checked = schema.check(file.schema)
    reader: Reader = import_module(f".{schema.MODULES[file.format]}", __name__).open_file(file.path, checked)
    return reader
