"""What a teacher is worth: a student with a teacher beside the same student alone, on scikit-learn's digits.

``python benchmarks/distillation.py``. The digits are split into the rows of the teacher, with their right
labels, those of the students, and those of the test. Both students have the same first weights, rows, order
of the rows, epochs and optimizer; they differ in the loss.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from common import setting, table, write_results
from sklearn.datasets import load_digits
from torch import nn

from exporters.datasets.schema import CLASSIFICATION
from exporters.optimize import losses
from exporters.optimize.schedule import Schedule
from exporters.optimize.states import States
from exporters.optimize.training import Examples, Trainings, tensors

SEEDS = 5
_TEACHERS_ROWS, _STUDENTS_ROWS = 600, 600  # the other 597 are the test
_EPOCHS, _LEARNING_RATE, _BATCH_SIZE = 40, 3e-3, 32
_TEMPERATURE, _ALPHA = 2.0, 0.9


@dataclass(frozen=True)
class Digits:
    """``float32[N, 64]`` and ``int64[N]`` of each part."""

    teachers: Examples
    students: Examples
    test: Examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    digits = _digits()
    teacher = _teacher()
    _train(teacher, digits.teachers, seed=0)
    rows = []
    for count, wrong in ((600, 0.3), (300, 0.3), (600, 0.5), (600, 0.0), (100, 0.0)):
        pairs = [_pair(teacher, digits, count, wrong, seed) for seed in range(given.seeds)]
        rows.append((f"{count}", f"{wrong:.0%}", *_compared(pairs)))
        print("  " + ", ".join(rows[-1]), flush=True)
    write_results("distillation", _report(rows, _accuracy(teacher, digits.test), given.seeds))


def _digits() -> Digits:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    parts = np.split(order, [_TEACHERS_ROWS, _TEACHERS_ROWS + _STUDENTS_ROWS])
    x = (images / 16).astype(np.float32)
    return Digits(*(Examples((x[part],), labels[part].astype(np.int64), None) for part in parts))


def _teacher() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(1024, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)),
    )


def _student(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def _pair(teacher: nn.Module, digits: Digits, count: int, wrong: float, seed: int) -> tuple[float, float]:
    """Return the accuracies of the student alone and of the student with the teacher."""
    data = _drawn(digits.students, count, wrong, seed)
    with torch.no_grad():
        targets = teacher(torch.from_numpy(data.inputs[0])).numpy()
    alone, taught = _student(seed), _student(seed)
    _train(alone, data, seed)
    _train(taught, replace(data, targets=targets), seed)
    return _accuracy(alone, digits.test), _accuracy(taught, digits.test)


def _drawn(pool: Examples, count: int, wrong: float, seed: int) -> Examples:
    """Return rows of the pool, a share of them with a wrong label."""
    assert pool.labels is not None
    random = np.random.default_rng(seed)
    rows = random.choice(len(pool), count, replace=False)
    others = (pool.labels[rows] + random.integers(1, 10, count)) % 10
    labels = np.where(random.random(count) < wrong, others, pool.labels[rows])
    return Examples((pool.inputs[0][rows],), labels, None)


def _train(network: nn.Module, data: Examples, seed: int) -> None:
    """Train on the labels or, if the data has targets, on both."""
    sample = tensors(network(*data.first()))
    loss = losses.of_task(CLASSIFICATION, sample)
    if data.targets is not None:
        loss = losses.distilled(
            CLASSIFICATION, sample, data.all_targets(), temperature=_TEMPERATURE, alpha=_ALPHA
        )
    plan = Schedule(_EPOCHS, _BATCH_SIZE, _LEARNING_RATE, len(data), seed)
    Trainings(States(None, {}), _EPOCHS).train(network, data, loss, plan, statistics=True)


def _accuracy(network: nn.Module, data: Examples) -> float:
    with torch.no_grad():
        found: npt.NDArray[np.int64] = network(torch.from_numpy(data.inputs[0])).argmax(1).numpy()
    return float((found == data.labels).mean())


def _compared(pairs: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    alone, taught = np.array(pairs).T
    gains = taught - alone
    return (*map(_spread, (alone, taught, gains)), f"{(gains > 0).sum()} of {len(gains)}")


def _spread(values: npt.NDArray[np.float64]) -> str:
    """Return mean and standard deviation, in percent."""
    return f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}"


def _report(rows: Sequence[Sequence[str]], teacher: float, seeds: int) -> str:
    header = ("rows", "wrong labels", "alone, %", "with a teacher, %", "gain, points", "better")
    return (
        f"# Distillation\n\n`python benchmarks/distillation.py`. {setting()}\n\n"
        f"Accuracy on the test rows of scikit-learn's digits: mean and standard deviation of {seeds} seeds. "
        f"The teacher, a convolutional network ({100 * teacher:.1f} %), was trained on {_TEACHERS_ROWS} "
        "other rows with right labels. The student has a hidden layer of 16. Both arms have the same rows, "
        f"first weights, order, {_EPOCHS} epochs and optimizer; temperature {_TEMPERATURE:g}, "
        f"alpha {_ALPHA:g}.\n\n"
        f"{table(header, rows)}"
    )


if __name__ == "__main__":
    main()
