"""The loss that a training minimises, by the task of its dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..datasets.schema import CLASSIFICATION, RECONSTRUCTION, REGRESSION
from ..errors import UnsupportedOption
from .training import Loss, Rows

if TYPE_CHECKING:
    import torch

TASKS = (CLASSIFICATION, REGRESSION, RECONSTRUCTION)


def of_task(task: str | None, sample: Sequence[torch.Tensor]) -> Loss:
    """Return the loss.

    Classification: the cross entropy of the first output [rows, classes], or of one score for two classes;
    scores or probabilities. Regression: the mean squared error of the first output. Reconstruction: that from
    the input of the same shape.

    Args:
        sample: outputs of the network before its training, which show whether they are probabilities.

    Raises:
        UnsupportedOption: a task without a loss here.
    """
    if task == CLASSIFICATION:
        return _Classification(sample[0])
    if task == REGRESSION:
        return _regression
    if task == RECONSTRUCTION:
        return _reconstruction
    raise UnsupportedOption(
        f"A network for {task or 'an unknown task'} cannot be trained here, only one for "
        f"{', '.join(TASKS)}. Set the dataset's task_type, or use static quantization.",
        allowed=list(TASKS),
        option="method",
    )


class _Classification:
    def __init__(self, sample: torch.Tensor) -> None:
        self._probabilities = _are_probabilities(sample)

    def __call__(self, outputs: Sequence[torch.Tensor], rows: Rows) -> torch.Tensor:
        import torch.nn.functional as functions

        found, labels = outputs[0], rows.labels
        assert labels is not None  # a dataset of a classification has labels
        if found.ndim == 2 and found.shape[1] > 1:
            return functions.cross_entropy(_scores(found, self._probabilities), labels)
        score, wanted = found.reshape(-1), labels.to(found.dtype)
        if self._probabilities:
            return functions.binary_cross_entropy(score, wanted)
        return functions.binary_cross_entropy_with_logits(score, wanted)


def _are_probabilities(sample: torch.Tensor) -> bool:
    """Return whether the outputs are probabilities: rows with the sum 1, or single numbers from 0 to 1."""
    if sample.ndim == 2 and sample.shape[1] > 1 and not bool(((sample.sum(dim=1) - 1).abs() < 1e-3).all()):
        return False
    return bool(((sample >= 0) & (sample <= 1)).all())


def _scores(found: torch.Tensor, probabilities: bool) -> torch.Tensor:
    """Return scores whose softmax is the probabilities."""
    return found.clamp_min(1e-12).log() if probabilities else found


def _regression(outputs: Sequence[torch.Tensor], rows: Rows) -> torch.Tensor:
    import torch.nn.functional as functions

    assert rows.labels is not None  # a dataset of a regression has labels
    wanted = rows.labels.to(outputs[0].dtype)
    return functions.mse_loss(outputs[0].reshape(len(wanted), -1), wanted.reshape(len(wanted), -1))


def _reconstruction(outputs: Sequence[torch.Tensor], rows: Rows) -> torch.Tensor:
    import torch.nn.functional as functions

    for given in rows.inputs:
        if given.shape == outputs[0].shape and given.dtype.is_floating_point:
            return functions.mse_loss(outputs[0], given)
    raise UnsupportedOption(
        "The network reconstructs none of its inputs: its first output has another shape than each.",
        allowed=list(TASKS),
        option="method",
    )
