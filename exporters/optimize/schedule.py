"""The fields of techniques that train a network. Importing this module imports no framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..datasets.schema import CLASSIFICATION, RECONSTRUCTION, REGRESSION
from ..options import Option

TRAINED_TASKS = (CLASSIFICATION, REGRESSION, RECONSTRUCTION)
"""The tasks of datasets that a network can be trained on."""


@dataclass(frozen=True)
class Schedule:
    """``samples``: the most rows that are used, drawn with the seed."""

    epochs: int
    batch_size: int
    learning_rate: float
    samples: int
    seed: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Schedule:
        return cls(
            epochs=config["epochs"],
            batch_size=config["batch_size"],
            learning_rate=config["learning_rate"],
            samples=config["training_samples"],
            seed=config["seed"],
        )


def fields(*, epochs: int, learning_rate: float) -> dict[str, Option]:
    """Return the fields of a training with these defaults."""
    return {
        "training_dataset_id": Option("string", None, "The dataset that the network is trained on."),
        "training_samples": Option(
            "integer", 10_000, "The most of its rows that are used, drawn with the seed.", (1, 10_000_000)
        ),
        "epochs": Option("integer", epochs, "How often each row is used.", (1, 1000)),
        "batch_size": Option("integer", 32, "The rows of a step.", (1, 65_536)),
        "learning_rate": Option(
            "number", learning_rate, "The step size of the optimizer Adam.", (1e-8, 10.0)
        ),
        "seed": Option("integer", 0, "Of the order of the rows.", (0, 2**31 - 1)),
    }
