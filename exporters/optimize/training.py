"""Training of a network on the rows of a dataset, which several techniques of an export may do in turn.

Equal requests give equal weights on one kind of machine. After each epoch the state is stored, from which a
later run with the same request continues to the same weights; see ``states``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..base import Progress
from ..datasets.base import Dataset
from ..errors import InvalidDataset, OptimizationFailed
from .schedule import Schedule
from .states import States

if TYPE_CHECKING:
    import torch

_FIRST, _LAST = 5.0, 20.0  # percent of the export
# The rows of a training dataset are shuffled in memory.
_MAX_BYTES = 1 << 30
READ_ROWS = 256
_SAMPLE_ROWS = 64


@dataclass(frozen=True)
class Examples:
    """``inputs``: one array for each input of the model, in its order. ``labels``: as in ``Batch``.

    ``fixed_rows``: the model's batch; None: any. ``numbers``: of the rows in the file, which were drawn with
    ``seed``. ``targets``: a teacher's first output for each row.
    """

    inputs: tuple[npt.NDArray[Any], ...]
    labels: npt.NDArray[Any] | None
    fixed_rows: int | None
    numbers: npt.NDArray[np.int64] | None = None
    seed: int = 0
    targets: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def first(self) -> list[torch.Tensor]:
        """Return the inputs of the first rows."""
        import torch

        return [torch.from_numpy(array[: self.fixed_rows or _SAMPLE_ROWS]) for array in self.inputs]

    def all_targets(self) -> torch.Tensor:
        """Return the teacher's outputs for all rows."""
        import torch

        assert self.targets is not None
        return torch.from_numpy(self.targets)


@dataclass(frozen=True)
class Rows:
    """A batch as tensors."""

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor | None
    targets: torch.Tensor | None = None


Loss = Callable[["Sequence[torch.Tensor]", Rows], "torch.Tensor"]
"""``loss(outputs, rows)`` returns a scalar to minimise. ``outputs``: the network's, in its order."""


def examples(dataset: Dataset, names: Sequence[str], schedule: Schedule) -> Examples:
    """Return the rows that are trained on.

    Args:
        names: the model's inputs in its order.

    Raises:
        InvalidDataset: too large to be shuffled in memory, fewer rows than a batch, or an unfit row.
    """
    count = min(schedule.samples, dataset.size)
    require_room(count, dataset.row_bytes)
    batches = list(dataset.batches(READ_ROWS, at_most=count, seed=schedule.seed))
    inputs = tuple(np.concatenate([batch.inputs[name][: len(batch)] for batch in batches]) for name in names)
    labels = None if batches[0].labels is None else np.concatenate([batch.labels for batch in batches])
    numbers = np.concatenate([batch.rows for batch in batches])
    found = Examples(inputs, labels, dataset.fixed_rows, numbers, schedule.seed)
    least = found.fixed_rows or 1
    if len(found) < least:
        raise InvalidDataset(f"The training dataset has {len(found)} rows, but the model's batch is {least}.")
    return found


def require_room(rows: int, row_bytes: int) -> None:
    """Raises InvalidDataset: so many rows are too large for the memory."""
    if rows * row_bytes > _MAX_BYTES:
        raise InvalidDataset(
            f"{rows:,} rows of the training dataset take more than {_MAX_BYTES:,} bytes of memory. "
            f"Set training_samples to at most {_MAX_BYTES // row_bytes:,}, or use smaller inputs."
        )


def report(data: Examples, schedule: Schedule, losses: Sequence[float]) -> dict[str, Any]:
    """Return the report of trainings. ``losses``: of each epoch."""
    return {
        "rows": len(data),
        "batch_size": batch_rows(data, schedule),
        "losses": [float(f"{one:.6g}") for one in losses],
    }


class Trainings:
    """The trainings of one export, in turn.

    Args:
        epochs: of all together.
        keep_zeros: weights that are zero before a training stay zero.
    """

    def __init__(
        self,
        states: States,
        epochs: int,
        progress: Progress = lambda step, percent, message: None,
        *,
        keep_zeros: bool = False,
    ) -> None:
        self._states = states
        self._epochs = epochs
        self._progress = progress
        self._keep_zeros = keep_zeros
        self._done = 0  # epochs of earlier trainings

    def train(
        self, network: torch.nn.Module, data: Examples, loss: Loss, schedule: Schedule, *, statistics: bool
    ) -> list[float]:
        """Train the network in place. Returns the mean loss of each epoch.

        A stored state of this training is continued. All floating-point parameters are trained.

        Args:
            statistics: whether batch normalisations follow the batches; otherwise they keep their statistics.

        Raises:
            OptimizationFailed: the loss is not finite.
        """
        import torch

        for parameter in network.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        hooks = _hold_zeros(network) if self._keep_zeros else []
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.train(statistics and batch_rows(data, schedule) > 1)
        optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
        losses = self._states.begin(network, optimizer)
        with _same_arithmetic(self._states.threads) as threads:
            for number in range(len(losses), schedule.epochs):
                torch.manual_seed(schedule.seed * 1_000_003 + number)
                losses.append(_epoch(network, optimizer, data, loss, schedule, number))
                self._states.store(network, optimizer, losses, threads)
                self._report(number + 1, losses[-1])
        self._done += schedule.epochs
        for hook in hooks:
            hook.remove()
        network.eval()
        return losses

    def _report(self, epoch: int, loss: float) -> None:
        done = self._done + epoch
        percent = _FIRST + (_LAST - _FIRST) * done / self._epochs
        self._progress("train", percent, f"Epoch {done} of {self._epochs}: loss {loss:.4g}")


def batch_rows(data: Examples, schedule: Schedule) -> int:
    """Return the rows of a step."""
    return data.fixed_rows or min(schedule.batch_size, len(data))


def _hold_zeros(network: torch.nn.Module) -> list[Any]:
    """Let no gradient reach the zeros of weights, so that Adam leaves them as they are. Returns the hooks."""
    hooks = []
    for parameter in network.parameters():
        if parameter.ndim > 1 and parameter.is_floating_point():
            kept = (parameter.detach() != 0).to(parameter.dtype)
            hooks.append(parameter.register_hook(partial(_masked, kept)))
    return hooks


def _masked(kept: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return gradient * kept


def _epoch(
    network: Any, optimizer: Any, data: Examples, loss: Loss, schedule: Schedule, number: int
) -> float:
    import torch

    size = batch_rows(data, schedule)
    order = np.random.default_rng((schedule.seed, number)).permutation(len(data))
    losses = []
    for first in range(0, len(data) - size + 1, size):
        chosen = np.sort(order[first : first + size])
        labels, targets = (
            None if array is None else torch.from_numpy(array[chosen])
            for array in (data.labels, data.targets)
        )
        rows = Rows(tuple(torch.from_numpy(array[chosen]) for array in data.inputs), labels, targets)
        optimizer.zero_grad()
        found = loss(tensors(network(*rows.inputs)), rows)
        found.backward()
        optimizer.step()
        losses.append(float(found.detach()))
    mean = float(np.mean(losses))
    if not np.isfinite(mean):
        raise OptimizationFailed(
            f"The training diverged: the loss of epoch {number + 1} is {mean}. Lower learning_rate.",
            epoch=number + 1,
        )
    return mean


def tensors(outputs: Any) -> list[torch.Tensor]:
    """Return the tensors among a network's outputs, in their order."""
    from torch.utils._pytree import tree_leaves

    return [one for one in tree_leaves(outputs) if hasattr(one, "backward")]


class _same_arithmetic:  # noqa: N801 - a context manager
    """Sums depend on the number of threads: continue with that of the stored state."""

    def __init__(self, threads: int | None) -> None:
        self._wanted = threads

    def __enter__(self) -> int:
        import torch

        self._threads = torch.get_num_threads()
        self._deterministic = torch.are_deterministic_algorithms_enabled()
        wanted = self._wanted or self._threads
        torch.set_num_threads(wanted)
        torch.use_deterministic_algorithms(True, warn_only=True)
        return wanted

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self._threads)
        torch.use_deterministic_algorithms(self._deterministic)
