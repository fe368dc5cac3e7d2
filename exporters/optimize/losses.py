"""The loss that a training minimises, by the task of its dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..datasets.schema import CLASSIFICATION, RECONSTRUCTION, REGRESSION
from ..errors import UnsupportedOption
from .schedule import TRAINED_TASKS
from .training import Loss, Rows

if TYPE_CHECKING:
    import torch


def of_task(task: str | None, sample: Sequence[torch.Tensor], *, bounded: bool = True) -> Loss:
    """Return the loss on the labels of the rows.

    Classification: the cross entropy of the first output [rows, classes], or of one score for two classes;
    scores or probabilities. Regression: the mean squared error of the first output. Reconstruction: that from
    the input of the same shape.

    Args:
        sample: outputs of the network before its training, which show whether they are probabilities.
        bounded: whether a single score can be a probability; see ``torch_layers.ends_in_probabilities``.
            Scores of an untrained network may happen to be between 0 and 1.

    Raises:
        UnsupportedOption: a task without a loss here.
    """
    if task == CLASSIFICATION:
        return _Classification(sample[0], bounded)
    if task == REGRESSION:
        return _regression
    if task == RECONSTRUCTION:
        return _reconstruction
    raise _unknown(task)


def distilled(
    task: str | None,
    sample: Sequence[torch.Tensor],
    targets: torch.Tensor,
    *,
    temperature: float,
    alpha: float,
    bounded: bool = True,
) -> Loss:
    """Return the loss of a network with a teacher: alpha from the teacher, the rest from the labels.

    From the teacher's first output, ``Rows.targets``, for a classification with the temperature T:
    T² KL(softmax(teacher / T) ‖ softmax(network / T)), the mean of the rows (Hinton et al. 2015,
    arXiv:1503.02531). Regression and reconstruction: the mean squared error. From the labels: ``of_task``.

    Args:
        sample, bounded: as for ``of_task``.
        targets: of all rows; they show whether the teacher's outputs are probabilities.
        alpha: up to 1, which needs no labels.

    Raises:
        UnsupportedOption: a task without a loss here.
    """
    if task not in TRAINED_TASKS:
        raise _unknown(task)
    taught = _Soft(sample[0], bounded, targets, temperature) if task == CLASSIFICATION else _as_taught
    if alpha == 1:
        return taught
    labelled = of_task(task, sample, bounded=bounded)

    def both(outputs: Sequence[torch.Tensor], rows: Rows) -> torch.Tensor:
        return alpha * taught(outputs, rows) + (1 - alpha) * labelled(outputs, rows)

    return both


def _unknown(task: str | None) -> UnsupportedOption:
    return UnsupportedOption(
        f"A network for {task or 'an unknown task'} cannot be trained here, only one for "
        f"{', '.join(TRAINED_TASKS)}. Set the dataset's task_type, or do not train.",
        allowed=list(TRAINED_TASKS),
        option="training_dataset_id",
    )


class _Classification:
    def __init__(self, sample: torch.Tensor, bounded: bool) -> None:
        self._probabilities = _are_probabilities(sample, bounded)

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


class _Soft:
    def __init__(
        self, sample: torch.Tensor, bounded: bool, targets: torch.Tensor, temperature: float
    ) -> None:
        self._probabilities = _are_probabilities(sample, bounded)
        self._of_teacher = _are_probabilities(targets)
        self._temperature = temperature

    def __call__(self, outputs: Sequence[torch.Tensor], rows: Rows) -> torch.Tensor:
        import torch.nn.functional as functions

        assert rows.targets is not None  # the teacher's
        student = _two_or_more(outputs[0], self._probabilities) / self._temperature
        teacher = _two_or_more(rows.targets.to(student.dtype), self._of_teacher) / self._temperature
        difference = functions.kl_div(
            functions.log_softmax(student, dim=1),
            functions.log_softmax(teacher, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return difference * self._temperature**2


def _as_taught(outputs: Sequence[torch.Tensor], rows: Rows) -> torch.Tensor:
    import torch.nn.functional as functions

    assert rows.targets is not None  # the teacher's
    wanted = rows.targets.to(outputs[0].dtype)
    return functions.mse_loss(outputs[0].reshape(len(wanted), -1), wanted.reshape(len(wanted), -1))


def _two_or_more(found: torch.Tensor, probabilities: bool) -> torch.Tensor:
    """Return scores [rows, classes]; one score for two classes becomes two."""
    import torch

    if found.ndim == 2 and found.shape[1] > 1:
        return _scores(found, probabilities)
    score = found.reshape(-1)
    both = torch.stack([1 - score, score] if probabilities else [torch.zeros_like(score), score], dim=1)
    return _scores(both, probabilities)


def _are_probabilities(sample: torch.Tensor, bounded: bool = True) -> bool:
    """Return whether the outputs are probabilities: rows with the sum 1, or single numbers from 0 to 1."""
    if sample.ndim == 2 and sample.shape[1] > 1:
        if not bool(((sample.sum(dim=1) - 1).abs() < 1e-3).all()):
            return False
    elif not bounded:
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
        allowed=list(TRAINED_TASKS),
        option="method",
    )
