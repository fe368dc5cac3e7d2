"""What both kinds of pruning declare."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import UnsupportedOption
from ..options import Option
from . import schedule
from .base import PRUNING, TRAINING, SourceTechnique

ITERATIVE = "iterative"
SPARSITY = Option("number", None, "The share that is removed of each layer.", (0.01, 0.99))
STEPS = Option("integer", 5, "The number of steps of the iterative schedule.", (2, 100))
# The stored state has the weights after each of them.
_MOST_TRAINED_STEPS = 20
FIELDS = schedule.fields(epochs=3, learning_rate=1e-3)


def is_trained(config: Mapping[str, Any]) -> bool:
    """Return whether the network is trained after each step of the pruning."""
    return "epochs" in config


def steps(config: Mapping[str, Any]) -> int:
    return int(config["steps"]) if config["pruning_schedule"] == ITERATIVE else 1


def run_by(config: Mapping[str, Any]) -> str:
    """Return the description of the pruned network for fidelity.json."""
    trained = " and trained" if is_trained(config) else ""
    return f"the pruned{trained} source model in eager mode"


class Pruning(SourceTechnique):
    section = PRUNING
    reported_as = PRUNING
    optional: ClassVar = {TRAINING: tuple(FIELDS)}

    def trainings(self, config: Mapping[str, Any]) -> int:
        return steps(config) if is_trained(config) else 0

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedOption if ``sparsity`` is missing, or the network is trained after many steps."""
        if config["sparsity"] is None:
            raise UnsupportedOption(
                f"{self.method} pruning needs sparsity, the share to remove: a number from 0.01 to 0.99.",
                allowed=SPARSITY.explain(),
                option="sparsity",
            )
        if is_trained(config) and steps(config) > _MOST_TRAINED_STEPS:
            raise UnsupportedOption(
                f"A network can be trained after at most {_MOST_TRAINED_STEPS} steps of a pruning.",
                allowed=[2, _MOST_TRAINED_STEPS],
                option="steps",
            )
