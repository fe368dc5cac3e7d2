"""Open a dataset for a loaded source or a package: what each says about its inputs, classes and outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..base import Arrays, Dimension, Source, TensorSpec
from ..datasets import open_dataset
from ..datasets.base import Dataset
from ..datasets.schema import DatasetFile
from ..errors import InvalidDataset, InvalidSource
from ..metrics.decoding import ModelFacts
from ..processing.pipeline import Pipeline
from ..runners.bounded import bounds_of
from . import samples

# Rows of a batch, if the model does not accept every size.
_ROWS = 64


def for_source(
    file: DatasetFile,
    source: Source,
    *,
    task_type: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    labelled: bool = True,
) -> Dataset:
    """Open the dataset for a source; arguments and errors as ``datasets.open_dataset``."""
    encode = None
    if source.table is not None or source.texts is not None or "tokenizer" in (preprocessing or {}):
        encode = partial(_encoded, source, preprocessing or {})
    return open_dataset(
        file,
        _bounded(source.inputs, source.dimensions.get("batch")),
        task_type=task_type,
        preprocessing=preprocessing,
        classes=classes,
        labelled=labelled,
        missing=source.missing,
        columns=source.table.names if source.table is not None else None,
        encode=encode,
    )


def facts_of(
    source: Source, postprocessing: Mapping[str, Any] | None, classes: Sequence[str] | None
) -> ModelFacts:
    return ModelFacts(source.labels, postprocessing, tuple(classes or ()) or None)


def for_package(file: DatasetFile, folder: Path, metadata: Mapping[str, Any]) -> tuple[Dataset, ModelFacts]:
    """Open the dataset for an unpacked package. Raises as ``datasets.open_dataset``."""
    pipeline = Pipeline(metadata, folder)
    inputs = [TensorSpec.from_json(spec) for spec in metadata["input_specs"]]
    batches = [one for axes in bounds_of(metadata).values() for axis, (_, one) in axes.items() if axis == 0]
    dataset = open_dataset(
        file,
        _bounded(inputs, batches[0] if batches else None),
        task_type=metadata["model_info"]["task_type"],
        preprocessing=metadata["preprocessing"],
        classes=pipeline.classes,
        missing=bool(pipeline.missing),
        columns=[column["name"] for column in metadata["table"]["columns"]]
        if metadata.get("table")
        else None,
        encode=partial(_by_pipeline, pipeline)
        if pipeline.table is not None or pipeline.takes == "texts"
        else None,
    )
    return dataset, ModelFacts({}, metadata["postprocessing"], tuple(pipeline.classes or ()) or None)


def _bounded(inputs: Sequence[TensorSpec], batch: Dimension | None) -> tuple[TensorSpec, ...]:
    """Return the inputs with a fixed batch if the model does not accept every number of rows up to _ROWS."""
    if batch is None or (batch.minimum <= 1 and batch.multiple == 1 and (batch.maximum or _ROWS) >= _ROWS):
        return tuple(inputs)
    most = min(batch.maximum or _ROWS, max(_ROWS, batch.minimum))
    size = max(most // batch.multiple * batch.multiple, batch.minimum)
    return tuple(
        replace(spec, shape=(size, *spec.shape[1:])) if spec.shape[:1] == ("batch",) else spec
        for spec in inputs
    )


def _encoded(source: Source, preprocessing: Mapping[str, Any], columns: Arrays) -> Arrays:
    try:
        return samples.encoded(source, columns, preprocessing)
    except InvalidSource as exc:
        raise InvalidDataset(f"The dataset does not fit the model: {exc.message}") from exc


def _by_pipeline(pipeline: Pipeline, columns: Arrays) -> Arrays:
    try:
        if pipeline.takes == "texts":
            return pipeline.prepare(samples.listed(next(iter(columns.values()))))[0]
        values = [array.tolist() for array in columns.values()]
        rows = [list(row) for row in zip(*values, strict=True)]
        return pipeline.records({"columns": list(columns), "data": rows})
    except ValueError as exc:
        raise InvalidDataset(f"The dataset does not fit the model: {exc}") from exc
