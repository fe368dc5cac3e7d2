"""Training of a network on the rows of a dataset, for quantization-aware training and distillation.

Equal requests give equal weights on one kind of machine. After each epoch the state is stored, from which a
later run with the same request continues to the same weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..datasets.base import Dataset
from ..errors import InvalidDataset, OptimizationFailed

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.pt"
# The rows of a training dataset are shuffled in memory.
_MAX_BYTES = 1 << 30
_READ_ROWS = 256
_SAMPLE_ROWS = 64

Epoch = Callable[[int, int, float], None]
"""``epoch(done, epochs, loss)`` is called after each epoch, when its state is stored."""


@dataclass(frozen=True)
class Schedule:
    """``samples``: the most rows that are used, drawn with the seed."""

    epochs: int
    batch_size: int
    learning_rate: float
    samples: int
    seed: int


@dataclass(frozen=True)
class Examples:
    """``inputs``: one array for each input of the model, in its order. ``labels``: as in ``Batch``.

    ``fixed_rows``: the model's batch; None: any.
    """

    inputs: tuple[npt.NDArray[Any], ...]
    labels: npt.NDArray[Any] | None
    fixed_rows: int | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def first(self) -> list[torch.Tensor]:
        """Return the inputs of the first rows."""
        import torch

        return [torch.from_numpy(array[: self.fixed_rows or _SAMPLE_ROWS]) for array in self.inputs]


@dataclass(frozen=True)
class Rows:
    """A batch as tensors."""

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor | None


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
    if count * dataset.row_bytes > _MAX_BYTES:
        most = _MAX_BYTES // dataset.row_bytes
        raise InvalidDataset(
            f"{count:,} rows of the training dataset take more than {_MAX_BYTES:,} bytes of memory. "
            f"Set training_samples to at most {most:,}, or use smaller inputs."
        )
    batches = list(dataset.batches(_READ_ROWS, at_most=count, seed=schedule.seed))
    inputs = tuple(np.concatenate([batch.inputs[name][: len(batch)] for batch in batches]) for name in names)
    labels = None if batches[0].labels is None else np.concatenate([batch.labels for batch in batches])
    found = Examples(inputs, labels, dataset.fixed_rows)
    least = found.fixed_rows or 1
    if len(found) < least:
        raise InvalidDataset(f"The training dataset has {len(found)} rows, but the model's batch is {least}.")
    return found


def train(
    network: torch.nn.Module,
    data: Examples,
    loss: Loss,
    schedule: Schedule,
    folder: Path | None,
    request: Mapping[str, Any],
    epoch: Epoch = lambda done, epochs, loss: None,
) -> list[float]:
    """Train the network in place. Returns the mean loss of each epoch.

    Args:
        folder: of the stored state; a state that is there is continued if its request is the same. None: the
            state is not stored.
        request: everything that determines the result, as JSON.

    Raises:
        OptimizationFailed: the loss is not finite.
    """
    import torch

    optimizer = torch.optim.Adam(
        [one for one in network.parameters() if one.requires_grad], lr=schedule.learning_rate
    )
    state = _State(network, optimizer, folder, _fingerprint(request))
    losses, threads = state.load()
    with _same_arithmetic(threads) as threads:
        for number in range(len(losses), schedule.epochs):
            torch.manual_seed(schedule.seed * 1_000_003 + number)
            mean = _epoch(network, optimizer, data, loss, schedule, number)
            losses.append(mean)
            state.store(losses, threads)
            epoch(number + 1, schedule.epochs, mean)
    return losses


def _epoch(
    network: Any, optimizer: Any, data: Examples, loss: Loss, schedule: Schedule, number: int
) -> float:
    import torch

    size = data.fixed_rows or min(schedule.batch_size, len(data))
    order = np.random.default_rng((schedule.seed, number)).permutation(len(data))
    losses = []
    for first in range(0, len(data) - size + 1, size):
        chosen = np.sort(order[first : first + size])
        rows = Rows(
            tuple(torch.from_numpy(array[chosen]) for array in data.inputs),
            None if data.labels is None else torch.from_numpy(data.labels[chosen]),
        )
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


class _State:
    """The stored state of a training: weights, optimizer and losses."""

    def __init__(self, network: Any, optimizer: Any, folder: Path | None, fingerprint: str) -> None:
        self._network = network
        self._optimizer = optimizer
        self._path = None if folder is None else folder / CHECKPOINT
        self._fingerprint = fingerprint

    def load(self) -> tuple[list[float], int | None]:
        """Continue with the stored state. Returns its losses and number of threads; none if there is none."""
        import torch

        if self._path is None or not self._path.is_file():
            return [], None
        stored = torch.load(self._path, weights_only=True)
        if stored["request"] != self._fingerprint:
            return [], None
        self._network.load_state_dict(stored["network"])
        self._optimizer.load_state_dict(stored["optimizer"])
        return list(stored["losses"]), int(stored["threads"])

    def store(self, losses: Sequence[float], threads: int) -> None:
        import torch

        if self._path is None:
            return
        state = {
            "request": self._fingerprint,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "losses": list(losses),
            "threads": threads,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(".new")
        with written.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        written.rename(self._path)


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


def _fingerprint(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
