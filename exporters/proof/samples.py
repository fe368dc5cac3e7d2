"""Sample inputs that a model's owner stores with it: reading, validation, and adaptation to other sizes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Source, TensorSpec
from ..errors import InvalidSource
from ..processing.text import Tokenizer

TEXT = "text"  # the name of an array of texts, for a model that takes texts


def attach(source: Source, path: Path | None, preprocessing: Mapping[str, Any] | None = None) -> Source:
    """Return the source with the arrays of an ``.npz``; unchanged if ``path`` is None.

    The arrays are named like its inputs. A model of texts takes ``text`` instead, which the declared
    ``preprocessing`` may tokenize; and a table takes an array for each of its columns.

    Raises:
        InvalidSource: the file cannot be read, or the model does not take its arrays.
    """
    if path is None:
        return source
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: Arrays = {name.removeprefix("input:"): archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError) as exc:
        raise InvalidSource(
            "The sample inputs are not readable. Save them with numpy.savez(path, **inputs), and texts as an "
            "array of texts, not of objects: array.astype(str)."
        ) from exc
    names = [spec.name for spec in source.inputs]
    if not all(spec.name in arrays and has_shape(arrays[spec.name], spec) for spec in source.inputs):
        arrays = encoded(source, arrays, preprocessing or {})
    for spec in source.inputs:
        array = arrays.get(spec.name)
        if array is None or str(array.dtype) != spec.dtype or not has_shape(array, spec):
            raise InvalidSource(
                f"The sample inputs must contain {spec.name!r} as {spec.dtype} of shape "
                f"{list(spec.shape)}; the model's inputs are {', '.join(names)}.{_instead(source)}"
            )
        if not array.size and 0 not in spec.shape:
            raise InvalidSource(f"The sample inputs have no row for {spec.name!r}. Store at least one row.")
    return replace(source, samples={name: arrays[name] for name in names})


def encoded(source: Source, arrays: Arrays, preprocessing: Mapping[str, Any]) -> Arrays:
    """Return the inputs for texts or columns of a table; ``arrays`` unchanged if they are neither.

    Raises:
        InvalidSource: the model does not accept the texts or columns.
    """
    name, dtype = source.inputs[0].name, source.inputs[0].dtype
    try:
        if source.table is not None:
            return {name: source.table.encoded(source, arrays)} if source.table.has(arrays) else arrays
        if arrays.keys() != {TEXT}:
            return arrays
        if source.texts is not None:
            return {name: source.texts.encoded(listed(arrays[TEXT])).astype(dtype)}
        if "tokenizer" in preprocessing:
            tokenize = Tokenizer(preprocessing["tokenizer"], source.attachments[0].parent)
            tokens = tokenize(listed(arrays[TEXT]))
            return {spec.name: tokens[spec.name].astype(spec.dtype) for spec in source.inputs}
    except ValueError as exc:
        raise InvalidSource(f"The model does not accept the sample inputs: {exc}") from exc
    return arrays


def listed(texts: npt.NDArray[Any]) -> list[str]:
    """Return an array of texts as a list. Raises ValueError: another array, or a missing text."""
    found: list[Any] = texts.tolist()
    if texts.ndim != 1 or not found or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{TEXT!r} must be an array of texts with the shape [texts].")
    return found


def _instead(source: Source) -> str:
    """Return what a model of texts or of a table takes instead of its input."""
    if source.texts is not None:
        return f" Or store its texts, as one array of texts named {TEXT!r}."
    return "" if source.table is None else " Or store an array for each column of its table, by name."


def has_shape(array: npt.NDArray[np.generic], spec: TensorSpec) -> bool:
    return array.ndim == len(spec.shape) and all(
        isinstance(size, str) or have == size for have, size in zip(array.shape, spec.shape, strict=True)
    )


def resized(samples: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Return the samples cut to ``shapes``, or repeated from their beginning if they are shorter."""
    return {name: _resized(samples[name], shape) for name, shape in shapes.items()}


def parts(source: Source) -> Iterator[Arrays]:
    """Yield the samples whole, or, if the batch was fixed afterwards, batch by batch."""
    samples = source.samples
    if samples is None:
        return
    if all(has_shape(samples[spec.name], spec) for spec in source.inputs):
        yield samples
        return
    # A fixed batch is the first axis of every input that has one.
    rows = max((array.shape[0] for array in samples.values() if array.ndim), default=1)
    size = max(
        (
            spec.shape[0]
            for spec in source.inputs
            if spec.shape and isinstance(spec.shape[0], int) and samples[spec.name].shape[0] != spec.shape[0]
        ),
        default=rows,
    )
    for start in range(0, rows, size):
        part = {
            name: array[start:] if array.ndim and array.shape[0] == rows else array
            for name, array in samples.items()
        }
        yield resized(
            part,
            {
                spec.name: tuple(
                    have if isinstance(want, str) else want
                    for have, want in zip(part[spec.name].shape, spec.shape, strict=True)
                )
                for spec in source.inputs
            },
        )


def _resized(array: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    for axis, size in enumerate(shape):
        if array.shape[axis] != size:
            array = np.take(array, np.arange(size) % array.shape[axis], axis=axis)
    return array
