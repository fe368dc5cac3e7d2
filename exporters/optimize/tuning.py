"""Training of a pruned network on the labels of a dataset, after each step of the pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import Source
from . import losses, torch_layers
from .base import Training
from .schedule import Schedule
from .training import examples, report, tensors


def tuned(
    network: Any, source: Source, config: Mapping[str, Any], training: Training | None
) -> Tuning | None:
    """Return the training of a pruned network; None if it is not trained.

    Args:
        network: before the pruning; its outputs show which loss fits.

    Raises:
        InvalidDataset, UnsupportedOption: as ``training.examples`` and ``losses.of_task``.
    """
    return None if training is None else Tuning(network, source, config, training)


class Tuning:
    """The training that follows each step; see ``tuned``."""

    def __init__(self, network: Any, source: Source, config: Mapping[str, Any], training: Training) -> None:
        self._run = training.run
        self._plan = Schedule.of(config)
        self._data = examples(training.dataset, [spec.name for spec in source.inputs], self._plan)
        self._loss = losses.of_task(
            training.dataset.task,
            tensors(network(*self._data.first())),
            bounded=torch_layers.ends_in_probabilities(network),
        )
        self._losses: list[float] = []

    def train(self, network: Any) -> None:
        """Train the network in place; raises as ``Trainings.train``."""
        self._losses += self._run.train(network, self._data, self._loss, self._plan, statistics=True)

    def report(self) -> dict[str, Any]:
        return report(self._data, self._plan, self._losses)
