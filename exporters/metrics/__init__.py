"""The metrics of a model on a dataset, by task. Importing this package needs the standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from ..datasets.schema import CLASSIFICATION, DETECTION, RECONSTRUCTION, REGRESSION, SEGMENTATION
from ..errors import UnsupportedOption

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Metric:
    """``is_error``: less is better, and a drop is the relative increase."""

    name: str
    tasks: tuple[str, ...]
    is_error: bool = False


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", (CLASSIFICATION,)),
        Metric("top5", (CLASSIFICATION,)),
        Metric("f1", (CLASSIFICATION,)),
        Metric("precision", (CLASSIFICATION,)),
        Metric("recall", (CLASSIFICATION,)),
        Metric("mse", (REGRESSION, RECONSTRUCTION), is_error=True),
        Metric("mae", (REGRESSION, RECONSTRUCTION), is_error=True),
        Metric("r2", (REGRESSION,)),
        Metric("mAP50", (DETECTION,)),
        Metric("mAP50-95", (DETECTION,)),
        Metric("iou", (SEGMENTATION,)),
    )
}
# Task → the module of this package with its ``Tally``.
_TALLIES = {
    CLASSIFICATION: "classification",
    REGRESSION: "numeric",
    RECONSTRUCTION: "numeric",
    DETECTION: "detection",
    SEGMENTATION: "segmentation",
}
_ALIASES = {"top5_accuracy": "top5"}
_THRESHOLD = "_drop_max"


class Tally(Protocol):
    """The predictions of a model for a dataset, as far as its metrics need them."""

    rows: int
    lacking: frozenset[str]  # the metrics that the predictions do not determine

    def add(self, predictions: Any, labels: Any) -> None:
        """Add a batch; the forms of both are in the task's module. Raises InvalidDataset: they do not fit."""

    def values(self, names: Iterable[str]) -> dict[str, float]:
        """Return the metrics over all rows. Raises InvalidDataset for one that is ``lacking``."""

    def resampled(self, names: Iterable[str], counts: npt.NDArray[np.int64]) -> dict[str, float]:
        """Return the metrics of a sample in which row i occurs ``counts[i]`` times."""

    def resamples(self, most: int) -> int:
        """Return how many samples can be computed in reasonable time, at most ``most``."""


def tally(task: str) -> Tally:
    """Return an empty tally of the task's metrics."""
    new: Tally = import_module(f".{_TALLIES[task]}", __name__).of(task)
    return new


def compute(task: str, names: Iterable[str], labels: Any, predictions: Any) -> dict[str, float]:
    """Return the metrics by name. The forms of labels and predictions are in the task's module."""
    found = tally(task)
    found.add(predictions, labels)
    return found.values(names)


def names_of(task: str) -> list[str]:
    return [metric.name for metric in METRICS.values() if task in metric.tasks]


def check(names: Sequence[str] | None, task: str | None = None, option: str = "metrics") -> list[str]:
    """Return the metrics by their names here; those of the task if ``names`` is None or empty.

    Raises:
        UnsupportedOption: an unknown metric, or one that the task does not have.
    """
    allowed = list(METRICS) if task is None else names_of(task)
    if names is not None and not isinstance(names, list | tuple):
        raise UnsupportedOption(f"{option} must be a list.", allowed=allowed, option=option)
    found = []
    for given in names or (allowed if task else ()):
        name = _ALIASES.get(given, given) if isinstance(given, str) else str(given)
        if name not in allowed:
            of_task = f" of a {task}" if task and name in METRICS else ""
            raise UnsupportedOption(
                f"{name[:40]!r} is no metric{of_task}. Use {', '.join(allowed)}.",
                allowed=allowed,
                option=option,
            )
        found.append(name)
    return list(dict.fromkeys(found))


def check_thresholds(
    given: Any, names: Sequence[str] | None = None, option: str = "fail_threshold"
) -> dict[str, float]:
    """Return metric → the largest drop that passes, from ``{"accuracy_drop_max": 0.02}``.

    Args:
        names: the metrics that are computed; None: any.

    Raises:
        UnsupportedOption: another key, or a value that is no number from 0.
    """
    allowed = [f"{name}{_THRESHOLD}" for name in names or METRICS]
    if not isinstance(given or {}, Mapping):
        raise UnsupportedOption(f"{option} must be an object.", allowed=allowed, option=option)
    found = {}
    for key, value in (given or {}).items():
        stem = str(key).removesuffix(_THRESHOLD)
        if f"{_ALIASES.get(stem, stem)}{_THRESHOLD}" not in allowed or not str(key).endswith(_THRESHOLD):
            raise UnsupportedOption(
                f"{option} has no {str(key)[:40]!r} here. Use {', '.join(allowed)}.",
                allowed=allowed,
                option=option,
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise UnsupportedOption(
                f"{option}.{key} must be a number from 0 on.", allowed="a number from 0", option=option
            )
        found[_ALIASES.get(stem, stem)] = float(value)
    return found
