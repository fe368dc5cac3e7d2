"""The training loop: equal requests give equal weights, also after an interruption."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits

from exporters.base import Progress
from exporters.datasets.schema import CLASSIFICATION, DETECTION, RECONSTRUCTION, REGRESSION
from exporters.errors import OptimizationFailed, UnsupportedOption
from exporters.optimize import losses
from exporters.optimize.schedule import Schedule
from exporters.optimize.states import CHECKPOINT, States
from exporters.optimize.training import Examples, Loss, Trainings, tensors

SCHEDULE = Schedule(epochs=5, batch_size=64, learning_rate=5e-3, samples=10_000, seed=7)
REQUEST = {"source": "sha256:1", "epochs": 5}


def digits() -> Examples:
    x, y = load_digits(return_X_y=True)
    return Examples(((x / 16).astype(np.float32),), y.astype(np.int64), None)


def network(outputs: int = 10, *end: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    body = (torch.nn.Linear(64, 32), torch.nn.Dropout(0.1), torch.nn.ReLU(), torch.nn.Linear(32, outputs))
    return torch.nn.Sequential(*body, *end).train()


def train(
    net: torch.nn.Module,
    data: Examples,
    loss: Loss,
    schedule: Schedule = SCHEDULE,
    states: States | None = None,
    progress: Progress = lambda step, percent, message: None,
) -> list[float]:
    trainings = Trainings(states or States(None, REQUEST), schedule.epochs, progress)
    return trainings.train(net, data, loss, schedule, statistics=True)


def trained(
    folder: Path | None = None, request: Any = REQUEST, **changes: Any
) -> tuple[torch.nn.Module, list[float]]:
    net, data = network(), digits()
    loss = losses.of_task(CLASSIFICATION, sample_of(net, data))
    return net, train(net, data, loss, states=States(folder, request), **changes)


def sample_of(net: torch.nn.Module, data: Examples) -> list[torch.Tensor]:
    with torch.no_grad():
        return tensors(net(*(torch.from_numpy(array[:64]) for array in data.inputs)))


def equal(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


class Killed(BaseException):
    """The worker is gone."""


def killed_after(epochs: int) -> Progress:
    def progress(step: str, percent: float, message: str) -> None:
        if message.startswith(f"Epoch {epochs} of"):
            raise Killed

    return progress


def test_a_run_that_was_killed_in_epoch_3_ends_with_the_same_weights(tmp_path: Path) -> None:
    undisturbed, expected = trained()
    with pytest.raises(Killed):
        trained(tmp_path, progress=killed_after(2))
    reports: list[str] = []
    resumed, found = trained(tmp_path, progress=lambda step, percent, message: reports.append(message[:7]))
    assert reports == ["Epoch 3", "Epoch 4", "Epoch 5"], "the first two epochs are not run again"
    assert found == expected
    assert equal(resumed, undisturbed)
    assert expected[-1] < expected[0] / 2
    finished, _ = trained(tmp_path, progress=killed_after(1))
    assert equal(finished, undisturbed), "a finished training is not run again"


def test_the_state_of_another_request_is_not_continued(tmp_path: Path) -> None:
    trained(tmp_path)
    other, _ = trained(tmp_path, request=REQUEST | {"source": "sha256:2"})
    assert equal(other, trained()[0])
    assert (tmp_path / CHECKPOINT).is_file()
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_another_seed_gives_other_weights() -> None:
    other = Schedule(epochs=5, batch_size=64, learning_rate=5e-3, samples=10_000, seed=8)
    assert not equal(trained(schedule=other)[0], trained()[0])


def test_a_training_that_diverges_is_an_error() -> None:
    wild = Schedule(epochs=3, batch_size=64, learning_rate=1e30, samples=10_000, seed=0)
    with pytest.raises(OptimizationFailed, match="Lower learning_rate"):
        trained(schedule=wild)


def test_a_fixed_batch_is_kept() -> None:
    x, y = load_digits(return_X_y=True)
    sizes = set()

    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, rows: torch.Tensor) -> Any:
            sizes.add(len(rows))
            return self.inner(rows)

    net, data = Fixed(), Examples((x.astype(np.float32),), y.astype(np.int64), 30)
    train(net, data, losses.of_task(CLASSIFICATION, sample_of(net, data)))
    assert sizes == {64, 30}, "64 is the sample's"


@pytest.mark.parametrize(
    ("end", "outputs"),
    [((), 10), ((torch.nn.Softmax(dim=1),), 10), ((), 1), ((torch.nn.Sigmoid(),), 1)],
)
def test_classes_are_learnt_from_scores_and_from_probabilities(end: Any, outputs: int) -> None:
    data = digits()
    if outputs == 1:
        assert data.labels is not None
        data = Examples(data.inputs, (data.labels > 4).astype(np.int64), None)
    net = network(outputs, *end)
    loss = losses.of_task(CLASSIFICATION, sample_of(net, data))
    found = train(net, data, loss)
    assert found[-1] < found[0] * 0.6
    logits = network(outputs)
    of_logits = train(logits, data, losses.of_task(CLASSIFICATION, sample_of(logits, data)))
    assert found == pytest.approx(of_logits, rel=1e-3), "the same loss"


def test_numbers_and_reconstructions_are_learnt() -> None:
    x, y = load_diabetes(return_X_y=True)
    regression = Examples((x.astype(np.float32),), (y[:, None] - y.mean()) / y.std(), None)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    slow = Schedule(epochs=20, batch_size=32, learning_rate=1e-2, samples=1000, seed=0)
    found = train(net, regression, losses.of_task(REGRESSION, sample_of(net, regression)), slow)
    assert found[-1] < found[0] * 0.7

    images = Examples(digits().inputs, None, None)
    coder = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Linear(8, 64))
    loss = losses.of_task(RECONSTRUCTION, sample_of(coder, images))
    errors = train(coder, images, loss)
    assert errors[-1] < errors[0] * 0.7


def test_a_task_without_a_loss_is_named() -> None:
    with pytest.raises(UnsupportedOption, match="detection cannot be trained"):
        losses.of_task(DETECTION, [torch.zeros(1, 4)])
    coder = torch.nn.Linear(64, 10)
    images = Examples(digits().inputs, None, None)
    with pytest.raises(UnsupportedOption, match="reconstructs none"):
        train(coder, images, losses.of_task(RECONSTRUCTION, []))
