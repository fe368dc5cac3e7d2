"""Compare an artefact with its source by their metrics on a dataset: validation_results.json.

The drop of a metric is original - artefact; of an error (mse, mae) it is (artefact - original) / original.
Its interval is that of a paired bootstrap: both models are judged on the same samples of rows.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import metrics
from ..base import Arrays, copied
from ..datasets.base import Batch, Dataset
from ..errors import ConversionFailed, InvalidDataset, as_limit
from ..metrics import METRICS, Tally, bootstrap
from ..metrics.classification import ClassTally
from ..metrics.decoding import Decoder

MOST_CHANGED = 10
_BATCH_ROWS = 64
_BATCH_BYTES = 16 << 20
_CONFUSION_CLASSES = 100
_INPUT_NUMBERS = 1024  # of an input that is shown in the JSON
_INPUT_BYTES = 4 << 20  # of an input that is kept in the file
# A drop is a difference of rounded numbers
_ROUNDING = 1e-12

Predict = Callable[[Arrays], Arrays]
Rows = Callable[[int, int], None]
"""``rows(done, total)`` is called after each batch."""


@dataclass(frozen=True)
class Results:
    """``document``: validation_results.json. ``inputs``: those of its ``changed``, in its order."""

    document: dict[str, Any]
    inputs: list[Arrays]

    @property
    def passed(self) -> bool | None:
        passed: bool | None = self.document["passed"]
        return passed


def validate(
    source: Predict,
    artefact: Predict | None,
    dataset: Dataset,
    decoder: Decoder,
    names: Sequence[str] | None = None,
    *,
    fail_threshold: Mapping[str, float] = {},
    samples: int | None = None,
    seed: int = 0,
    why_not: str = "",
    rows: Rows = lambda done, total: None,
) -> Results:
    """Run both models on the dataset and compare their metrics.

    Args:
        names: metrics; None: all that the task and the predictions have.
        artefact: None if it does not run here; ``why_not`` is the reason, and ``passed`` is null.
        fail_threshold: metric → the largest drop that passes.
        samples: how many rows of the dataset to use, drawn with the seed; None: all.

    Raises:
        InvalidDataset: the dataset, or the source's outputs for it, do not fit.
        ConversionFailed: the artefact fails on rows that its source accepts, or its outputs do not fit.
    """
    changed = _MostChanged()
    tallies = [metrics.tally(str(dataset.task)) for _ in range(1 if artefact is None else 2)]
    for batch in _batches(dataset, samples, seed, rows):
        original = decoder.decode(_of_source(source, batch), batch)
        labels = decoder.labels(batch)
        tallies[0].add(original, labels)
        if artefact is not None:
            outputs = _of_artefact(artefact, batch)
            with _blaming_the_artefact():
                found = decoder.decode(outputs, batch)
                own, wanted = list(np.shape(found)), list(np.shape(original))
                if own != wanted:
                    raise InvalidDataset(f"Its predictions have the shape {own}, not {wanted}.")
                tallies[1].add(found, labels)
            changed.add(batch, decoder, original, found, labels)
    names = _names(names, tallies, dataset, fail_threshold)
    values = [tally.values(names) for tally in tallies]
    drawn = bootstrap.resampled(tallies, names, seed)
    compared = {name: _compared(name, values, drawn) for name in names}
    passed, reason = _judged(compared, fail_threshold) if artefact is not None else (None, why_not)
    document = {
        "dataset": dataset.describe(),
        "samples": tallies[0].rows,
        "seed": seed,
        "resamples": len(next(iter(drawn[0].values()))),
        "metrics": compared,
        "classes": dataset.classes,
        "confusion": _confusion(*tallies) if artefact is not None else None,
        "changed": changed.document(),
        "fail_threshold": {f"{name}_drop_max": value for name, value in fail_threshold.items()} or None,
        "passed": passed,
        "reason": reason,
    }
    return Results(document, changed.inputs())


def drop(
    source: Predict,
    artefact: Predict,
    dataset: Dataset,
    decoder: Decoder,
    name: str,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> float:
    """Return the drop of one metric, without its interval. Raises as ``validate``."""
    tallies = [metrics.tally(str(dataset.task)) for _ in range(2)]
    for batch in _batches(dataset, samples, seed, lambda done, total: None):
        original = decoder.decode(_of_source(source, batch), batch)
        labels = decoder.labels(batch)
        tallies[0].add(original, labels)
        outputs = _of_artefact(artefact, batch)
        with _blaming_the_artefact():
            tallies[1].add(decoder.decode(outputs, batch), labels)
    own, other = (tally.values([name])[name] for tally in tallies)
    return drop_of(name, own, other)


def evaluate(
    predict: Predict,
    dataset: Dataset,
    decoder: Decoder,
    names: Sequence[str] | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
    rows: Rows = lambda done, total: None,
) -> dict[str, Any]:
    """Run one model on the dataset, and return its metrics with bootstrap intervals.

    ``confusion`` counts pairs of label and prediction. Raises InvalidDataset as ``validate``.
    """
    tally = metrics.tally(str(dataset.task))
    for batch in _batches(dataset, samples, seed, rows):
        tally.add(decoder.decode(_of_source(predict, batch), batch), decoder.labels(batch))
    names = _names(names, [tally], dataset)
    values = tally.values(names)
    (drawn,) = bootstrap.resampled([tally], names, seed)
    return {
        "dataset": dataset.describe(),
        "samples": tally.rows,
        "seed": seed,
        "metrics": {
            name: {"value": value, "interval": bootstrap.interval(drawn[name])}
            for name, value in values.items()
        },
        "classes": dataset.classes,
        "confusion": _confusion(tally),
    }


def _names(
    given: Sequence[str] | None,
    tallies: Sequence[Tally],
    dataset: Dataset,
    fail_threshold: Mapping[str, float] = {},
) -> list[str]:
    """Return the metrics to compute. One that is asked for and lacking is an error of ``Tally.values``."""
    if given:
        return list(given)
    lacking = frozenset().union(*(tally.lacking for tally in tallies)) - set(fail_threshold)
    return [name for name in metrics.names_of(str(dataset.task)) if name not in lacking]


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document as flat fields: ``accuracy``, ``original_accuracy``, ``accuracy_drop``."""
    flat: dict[str, Any] = {}
    for name, one in document["metrics"].items():
        flat |= {name: one["artefact"], f"original_{name}": one["original"], f"{name}_drop": one["drop"]}
    return {
        **flat,
        "samples": document["samples"],
        "passed": document["passed"],
        "reason": document["reason"],
    }


def write_inputs(path: Path, inputs: Sequence[Arrays]) -> None:
    """Write the most changed inputs, as ``input:NAME`` with a row for each. Equal inputs give equal bytes."""
    arrays = {
        f"input:{name}": np.stack([one[name] for one in inputs])
        for name in (inputs[0] if inputs else ())
        if len({one[name].shape for one in inputs}) == 1
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def rows_of(dataset: Dataset) -> int:
    """Return the rows of a batch: as many as fit into a few megabytes."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, dataset.row_bytes)))


def _batches(dataset: Dataset, samples: int | None, seed: int, rows: Rows) -> Iterator[Batch]:
    total = min(samples or dataset.size, dataset.size)
    done = 0
    for batch in dataset.batches(rows_of(dataset), at_most=samples, seed=seed):
        yield batch
        done += len(batch)
        rows(done, total)


def _of_source(predict: Predict, batch: Batch) -> Arrays:
    try:
        return predict(copied(batch.inputs))
    except Exception as exc:
        raise as_limit(exc) or InvalidDataset(
            f"The model does not accept the rows from {batch.first} on: {str(exc).strip()[:300]}"
        ) from exc


def _of_artefact(predict: Predict, batch: Batch) -> Arrays:
    try:
        return predict(copied(batch.inputs))
    except Exception as exc:
        raise as_limit(exc) or ConversionFailed(
            f"The artefact fails on the rows from {batch.first} of the dataset, which its source accepts: "
            f"{str(exc).strip()[:300]}"
        ) from exc


@contextmanager
def _blaming_the_artefact() -> Iterator[None]:
    """Convert InvalidDataset to ConversionFailed: the outputs of the source fit the same dataset."""
    try:
        yield
    except InvalidDataset as exc:
        raise ConversionFailed(
            f"The artefact's outputs cannot be judged on the dataset, those of its source can: {exc.message}"
        ) from exc


def drop_of(name: str, original: float, artefact: float) -> float:
    """Return how much worse the artefact is; see the module."""
    return float(_drops(name, np.array(original), np.array(artefact)))


def _drops(
    name: str, original: npt.NDArray[np.float64], artefact: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    if not METRICS[name].is_error:
        return original - artefact
    # A source without an error: the increase itself
    scale = np.where(original > 0, original, 1.0)
    return np.asarray((artefact - original) / scale)


def _compared(
    name: str,
    values: Sequence[Mapping[str, float]],
    drawn: Sequence[Mapping[str, npt.NDArray[np.float64]]],
) -> dict[str, Any]:
    original = values[0][name]
    if len(values) == 1:
        return {"artefact": None, "original": original, "drop": None, "interval": None}
    artefact = values[1][name]
    return {
        "artefact": artefact,
        "original": original,
        "drop": drop_of(name, original, artefact),
        "interval": bootstrap.interval(_drops(name, drawn[0][name], drawn[1][name])),
    }


def _judged(
    compared: Mapping[str, Mapping[str, Any]], fail_threshold: Mapping[str, float]
) -> tuple[bool, str | None]:
    wrong = [
        f"{name} is {one['artefact']:.4g} instead of {one['original']:.4g}: the drop {one['drop']:.4g} "
        f"is above {fail_threshold[name]:g}"
        for name, one in compared.items()
        if name in fail_threshold and one["drop"] > fail_threshold[name] + _ROUNDING
    ]
    return not wrong, "; ".join(wrong) or None


def _confusion(first: Tally, second: Tally | None = None) -> list[list[int]] | None:
    """Count the pairs of both predictions, or of label and prediction; None for many classes."""
    if not isinstance(first, ClassTally) or not isinstance(second, ClassTally | None):
        return None
    pairs = (first.labels, first.predicted) if second is None else (first.predicted, second.predicted)
    size = int(max(pair.max() for pair in pairs)) + 1
    if size > _CONFUSION_CLASSES or min(pair.min() for pair in pairs) < 0:
        return None
    counts = np.bincount(pairs[0] * size + pairs[1], minlength=size * size).reshape(size, size)
    found: list[list[int]] = counts.tolist()
    return found


class _MostChanged:
    """Keeps the rows whose predictions differ most, with their inputs."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, dict[str, Any], Arrays]] = []  # the row, negated, decides ties

    def add(self, batch: Batch, decoder: Decoder, original: Any, artefact: Any, labels: Any) -> None:
        changes = decoder.changes(original, artefact)
        for place in np.argsort(-changes, kind="stable")[:MOST_CHANGED].tolist():
            key = (float(changes[place]), -int(batch.rows[place]))
            if not key[0] or (len(self._heap) == MOST_CHANGED and key < self._heap[0][:2]):
                break
            entry = {
                "index": int(batch.rows[place]),
                "original": decoder.shown(original, place),
                "artefact": decoder.shown(artefact, place),
                "label": None if batch.labels is None else decoder.shown(labels, place),
            }
            inputs = {name: array[place].copy() for name, array in batch.inputs.items()}
            if sum(array.nbytes for array in inputs.values()) > _INPUT_BYTES:
                inputs = {}
            heapq.heappush(self._heap, (*key, entry, inputs))
            if len(self._heap) > MOST_CHANGED:
                heapq.heappop(self._heap)

    def _sorted(self) -> list[tuple[float, int, dict[str, Any], Arrays]]:
        return sorted(self._heap, key=lambda item: item[:2], reverse=True)

    def document(self) -> list[dict[str, Any]]:
        return [{**entry, "input": _shown_input(inputs)} for _, _, entry, inputs in self._sorted()]

    def inputs(self) -> list[Arrays]:
        found = [inputs for *_, inputs in self._sorted()]
        return found if all(found) else []


def _shown_input(inputs: Arrays) -> dict[str, Any] | None:
    if not inputs or sum(array.size for array in inputs.values()) > _INPUT_NUMBERS:
        return None
    found = {}
    for name, array in inputs.items():
        shown = array.astype(object)
        if array.dtype.kind == "f":  # a missing value
            shown[np.isnan(array.astype(np.float64))] = None
        found[name] = shown.tolist()
    return found
