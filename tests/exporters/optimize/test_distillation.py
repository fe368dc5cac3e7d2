"""Distillation: the loss, what a teacher gains, and which teachers are rejected."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from exporters import convert, sources
from exporters.datasets.schema import CLASSIFICATION, DETECTION, RECONSTRUCTION, REGRESSION
from exporters.errors import InvalidDataset, UnsafeCheckpoint, UnsupportedOption
from exporters.optimize import losses, torch_layers
from exporters.optimize.schedule import Schedule
from exporters.optimize.states import CHECKPOINT, States
from exporters.optimize.training import Examples, Rows, Trainings, tensors
from exporters.request import ExportRequest

from .conftest import Trained

DYNAMIC = ({0: torch.export.Dim("batch", max=1024)},)
SCORES = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]], np.float32)
TAUGHT = np.array([[0.5, 0.0, 1.5], [-2.0, 1.0, 4.0]], np.float32)
LABELS = np.array([0, 2])
TEST_FROM = 360  # of the rows that the teacher has not seen: those before it train students


def student(seed: int = 0, classes: int = 10) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))


def save(net: nn.Module, path: Path) -> Path:
    example = (torch.zeros(2, 1, 8, 8),)
    torch.export.save(torch.export.export(net.eval(), example, dynamic_shapes=DYNAMIC), path)
    return path


def noisy(digits: Trained, seed: int, count: int = 300, wrong: float = 0.3) -> Examples:
    """Rows that the teacher has not seen, of which three in ten have a wrong label."""
    random = np.random.default_rng(seed)
    images, labels = digits.arrays()
    rows = random.choice(TEST_FROM, count, replace=False)
    x, y = images[rows], labels[rows]
    y = np.where(random.random(count) < wrong, (y + random.integers(1, 10, count)) % 10, y)
    return Examples((x,), y, None)


@pytest.fixture
def request_for(digits: Trained, tmp_path: Path) -> Callable[..., ExportRequest]:
    path = save(student(), tmp_path / "student.pt2")
    rows = noisy(digits, 0)
    data = tmp_path / "noisy.npz"
    np.savez(data, x=rows.inputs[0], y=rows.labels)  # type: ignore[arg-type]

    def make(name: str = "package", teacher: Path = digits.path, **fields: Any) -> ExportRequest:
        optimization = {
            "distillation": {
                "epochs": 5,
                "learning_rate": 1e-2,
                "alpha": 0.9,
                **fields.pop("distillation", {}),
            },
            "teacher": {"path": str(teacher), "name": "digits", "version": "v1.0"},
            "training": {"path": str(data), "format": "npz"},
            "calibration": {"path": str(digits.test), "format": "npz"},
            **fields.pop("optimization", {}),
        }
        request = ExportRequest(path, tmp_path / name, "onnx", optimization=optimization)
        return replace(request, **fields)

    return make


def loss_of(
    task: str, found: NDArray[Any], taught: NDArray[Any], labels: NDArray[Any] | None, **weights: float
) -> float:
    outputs, targets = torch.from_numpy(found), torch.from_numpy(taught)
    loss = losses.distilled(task, [outputs], targets, **weights)
    rows = Rows((outputs,), None if labels is None else torch.from_numpy(labels), targets)
    return float(loss([outputs], rows))


def divergence(teacher: NDArray[Any], network: NDArray[Any], temperature: float) -> float:
    """T² KL(teacher ‖ network), the mean of the rows."""
    one, other = (log_softmax(scores / temperature, axis=1) for scores in (teacher, network))
    return float((np.exp(one) * (one - other)).sum(axis=1).mean()) * temperature**2


def test_the_loss_is_the_divergence_of_the_teacher_from_the_network() -> None:
    wanted = divergence(TAUGHT, SCORES, 3.0)
    assert wanted != pytest.approx(divergence(SCORES, TAUGHT, 3.0), rel=0.01), "it has a direction"
    assert loss_of(CLASSIFICATION, SCORES, TAUGHT, None, temperature=3, alpha=1) == pytest.approx(wanted)
    entropy = -log_softmax(SCORES, axis=1)[[0, 1], LABELS].mean()
    both = loss_of(CLASSIFICATION, SCORES, TAUGHT, LABELS, temperature=3, alpha=0.25)
    assert both == pytest.approx(0.25 * wanted + 0.75 * entropy)


def test_scores_and_probabilities_have_the_same_loss() -> None:
    wanted = loss_of(CLASSIFICATION, SCORES, TAUGHT, LABELS, temperature=2, alpha=0.5)
    for found, taught in (
        (softmax(SCORES, axis=1), TAUGHT),
        (SCORES, softmax(TAUGHT, axis=1)),
        (softmax(SCORES, axis=1), softmax(TAUGHT, axis=1)),
    ):
        assert loss_of(CLASSIFICATION, found, taught, LABELS, temperature=2, alpha=0.5) == pytest.approx(
            wanted, rel=1e-4
        )


def test_one_score_is_that_of_two_classes() -> None:
    both = [np.stack([np.zeros(2, np.float32), scores[:, 0]], axis=1) for scores in (SCORES, TAUGHT)]
    wanted = divergence(both[1], both[0], 2.0)
    found = loss_of(CLASSIFICATION, SCORES[:, :1], TAUGHT[:, :1], None, temperature=2, alpha=1)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_numbers_and_reconstructions_have_squared_errors() -> None:
    taught, labelled = np.square(SCORES - TAUGHT).mean(), np.square(SCORES - 1).mean()
    labels = np.ones_like(SCORES, dtype=np.float64)
    found = loss_of(REGRESSION, SCORES, TAUGHT, labels, temperature=2, alpha=0.25)
    assert found == pytest.approx(0.25 * taught + 0.75 * labelled)
    found = loss_of(RECONSTRUCTION, SCORES, TAUGHT, None, temperature=2, alpha=0.25)
    assert found == pytest.approx(0.25 * taught), "the network returns its input"
    with pytest.raises(UnsupportedOption, match="detection cannot be trained"):
        loss_of(DETECTION, SCORES, TAUGHT, None, temperature=2, alpha=1)


@pytest.mark.parametrize(("end", "bounded"), [((), False), ((nn.Sigmoid(), nn.Flatten(0)), True)])
def test_a_score_of_an_untrained_network_is_no_probability(
    end: tuple[nn.Module, ...], bounded: bool, tmp_path: Path
) -> None:
    """All of its scores are near its bias, here between 0 and 1."""
    layer = nn.Linear(64, 1)
    with torch.no_grad():
        layer.weight.mul_(0.01)
        layer.bias.fill_(0.5)
    path = save(nn.Sequential(nn.Flatten(), layer, *end), tmp_path / "score.pt2")
    network = torch_layers.network(sources.load(path, {}))
    assert torch_layers.ends_in_probabilities(network) is bounded
    sample = tensors(network(torch.zeros(2, 1, 8, 8)))
    loss = losses.of_task(CLASSIFICATION, sample, bounded=bounded)
    if not bounded:
        outside = [torch.tensor([[-3.0], [2.0]])]
        found = loss(outside, Rows((), torch.tensor([0, 1])))
        assert float(found) == pytest.approx(np.log1p(np.exp([-3.0, -2.0])).mean(), rel=1e-5)


def test_a_student_is_better_than_the_same_student_alone(digits: Trained) -> None:
    """On labels of which three in ten are wrong; both have the same rows, epochs and first weights."""
    teacher = sources.load(digits.path, {}).reference
    images, wanted = (array[TEST_FROM:] for array in digits.arrays())
    found = []
    for seed in range(5):
        data = noisy(digits, seed)
        targets = next(iter(teacher({"input": data.inputs[0]}).values()))
        accuracies = []
        for alpha in (0.0, 0.9):
            net = student(seed)
            sample = tensors(net(*data.first()))
            rows = replace(data, targets=targets) if alpha else data
            loss = (
                losses.distilled(CLASSIFICATION, sample, rows.all_targets(), temperature=2.0, alpha=alpha)
                if alpha
                else losses.of_task(CLASSIFICATION, sample)
            )
            plan = Schedule(epochs=40, batch_size=32, learning_rate=3e-3, samples=300, seed=seed)
            Trainings(States(None, {}), plan.epochs).train(net, rows, loss, plan, statistics=True)
            with torch.no_grad():
                accuracies.append((net(torch.from_numpy(images)).argmax(1).numpy() == wanted).mean())
        found.append(accuracies)
    alone, taught = np.array(found).T
    gains = taught - alone
    assert gains.mean() > 0.03, gains
    assert gains.mean() > 2 * gains.std(ddof=1) / len(gains) ** 0.5, "more than by chance"


def test_the_artefact_is_compared_with_the_trained_student(
    request_for: Callable[..., ExportRequest], digits: Trained
) -> None:
    result = convert.run(request_for(optimization={"quantization": {"method": "static"}}))
    assert result.verdict == "verified"
    assert result.fidelity["reference"] == "the network after its training by a teacher, in eager mode"
    report = result.optimization["distillation"]
    assert report["teacher"] == {"name": "digits", "version": "v1.0", "checksum": None}
    assert (report["rows"], report["batch_size"], len(report["losses"])) == (300, 32, 5)
    assert report["losses"][-1] < 0.7 * report["losses"][0]
    assert report["judgement"]["original"] < 0.3, "of the untrained student"
    assert report["judgement"]["artefact"] > 0.7
    quantized = result.optimization["judgement"]
    assert quantized["original"] == report["judgement"]["artefact"], "judged by the trained student"
    assert result.optimization["recipe"]["distillation"]["temperature"] == 2.0
    assert "teacher" not in result.optimization["recipe"], "a path of the worker"


def test_a_distillation_that_was_killed_ends_with_the_same_bytes(
    request_for: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    class Killed(BaseException):
        """The worker is gone."""

    def die(step: str, percent: float, message: str) -> None:
        if message.startswith("Epoch 3 of 5"):
            raise Killed

    undisturbed = convert.run(request_for("undisturbed"))
    state = tmp_path / "state"
    with pytest.raises(Killed):
        convert.run(request_for("killed", training_dir=state), die)
    assert (state / CHECKPOINT).is_file()
    epochs: list[str] = []
    resumed = convert.run(
        request_for("resumed", training_dir=state),
        lambda step, percent, message: epochs.append(message[:7]) if step == "train" else None,
    )
    assert epochs == ["Epoch 4", "Epoch 5"]
    one, other = (result.package_dir / result.artefact for result in (undisturbed, resumed))
    assert one.read_bytes() == other.read_bytes()


def test_a_teacher_of_another_kind_teaches_without_labels(
    request_for: Callable[..., ExportRequest], digits: Trained, tmp_path: Path
) -> None:
    """A random forest of scikit-learn, and rows without labels."""
    with np.load(digits.calibration) as archive:
        x, y = archive["x"], archive["y"]
    forest = RandomForestClassifier(50, random_state=0).fit(x.reshape(len(x), -1), y)
    joblib.dump(forest, tmp_path / "forest.joblib")

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = student()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.net(x)
            return out

    path = tmp_path / "flat.pt2"
    dynamic = ({0: torch.export.Dim("batch", max=1024)},)
    torch.export.save(torch.export.export(Flat().eval(), (torch.zeros(2, 64),), dynamic_shapes=dynamic), path)
    unlabelled, labelled = tmp_path / "unlabelled.npz", tmp_path / "labelled.npz"
    np.savez(unlabelled, x=x.reshape(len(x), -1))
    images, wanted = digits.arrays()
    np.savez(labelled, x=images.reshape(len(images), -1), y=wanted)
    data = {"format": "npz", "task_type": "classification"}
    optimization = {
        "training": {"path": str(unlabelled), **data},
        "calibration": {"path": str(labelled), **data},
    }
    distillation = {"alpha": 1, "epochs": 20}
    request = request_for(
        teacher=tmp_path / "forest.joblib",
        source=path,
        distillation=distillation,
        optimization=optimization,
    )
    result = convert.run(request)
    assert result.optimization["distillation"]["judgement"]["artefact"] > 0.85


@pytest.mark.parametrize("classes", [5, 11])
def test_a_teacher_with_other_outputs_is_rejected(
    request_for: Callable[..., ExportRequest], tmp_path: Path, classes: int
) -> None:
    teacher = save(student(classes=classes), tmp_path / "teacher.pt2")
    with pytest.raises(
        UnsupportedOption, match=rf"teacher returns \[rows, {classes}\].*\[rows, 10\]"
    ) as caught:
        convert.run(request_for(teacher=teacher))
    assert caught.value.details["option"] == "teacher_model_id"


def test_a_teacher_is_loaded_like_any_untrusted_model(
    request_for: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "teacher.joblib"
    joblib.dump(Evil(), path)
    with pytest.raises(UnsafeCheckpoint, match="The teacher cannot be used"):
        convert.run(request_for(teacher=path))
    assert not (tmp_path / "ran").exists()


def test_a_teacher_of_other_inputs_is_rejected(
    request_for: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    net = nn.Linear(32, 10)
    torch.export.save(
        torch.export.export(net, (torch.zeros(2, 32),), dynamic_shapes=DYNAMIC), tmp_path / "other.pt2"
    )
    with pytest.raises(InvalidDataset, match=r"The teacher cannot be used.*takes \[batch, 32\]"):
        convert.run(request_for(teacher=tmp_path / "other.pt2"))
