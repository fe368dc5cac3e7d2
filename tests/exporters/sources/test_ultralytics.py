"""Checkpoints of Ultralytics: tiny YOLO11 networks of random weights, saved as a training run saves them."""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ultralytics.nn import tasks
from ultralytics.utils import ROOT, YAML

from exporters import runners, sources
from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption
from exporters.request import ExportRequest

NETWORKS = {
    "detect": ("yolo11.yaml", tasks.DetectionModel),
    "segment": ("yolo11-seg.yaml", tasks.SegmentationModel),
    "pose": ("yolo11-pose.yaml", tasks.PoseModel),
    "classify": ("yolo11-cls.yaml", tasks.ClassificationModel),
}


def network(task: str) -> Any:
    name, cls = NETWORKS[task]
    config = YAML.load(ROOT / "cfg/models/11" / name)
    config["scales"] = {"n": [0.33, 0.125, 128]}
    torch.manual_seed(0)
    model = cls({**config, "scale": "n", "nc": 3}, verbose=False)
    model.names = {0: "left", 1: "right", 2: "neither"}
    model.task = task
    return model


def save(model: Any, path: Path, **more: Any) -> Path:
    torch.save({"model": model.half(), "ema": None, "train_args": {"imgsz": 64}, "epoch": -1, **more}, path)
    return path


@pytest.mark.parametrize("task", NETWORKS)
def test_the_source_answers_what_ultralytics_does(task: str, tmp_path: Path) -> None:
    model = network(task)
    source = sources.load(save(model, tmp_path / "model.pt"), {})
    images = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)

    answer = source.reference({"images": images})

    with torch.no_grad():
        expected = model.float().eval()(torch.from_numpy(images))
    first = expected[0][0] if isinstance(expected[0], tuple) else expected[0]
    np.testing.assert_allclose(answer["output0"], first, rtol=1e-3, atol=1e-3)
    assert [(spec.name, spec.dtype, spec.shape) for spec in source.inputs] == [
        ("images", "float32", ("batch", 3, 64, 64))
    ]
    assert list(answer) == (["output0", "output1"] if task == "segment" else ["output0"])
    assert source.classes == ("left", "right", "neither")
    assert source.preprocessing is not None
    assert source.preprocessing["resize"]["size"] == [64, 64]


def test_a_detector_is_verified_and_says_how_to_use_it(tmp_path: Path) -> None:
    path = save(network("detect"), tmp_path / "model.pt")

    result = run(ExportRequest(path, tmp_path / "out", "onnx"))

    assert result.verdict == "verified"
    assert {case["input_shapes"]["images"][0] for case in result.fidelity["cases"]} == {1, 2, 3, 7}
    runner = runners.load(result.package_dir)
    assert [(spec.name, spec.shape) for spec in runner.outputs] == [("output0", ("batch", 7, 84))]
    metadata = (tmp_path / "out/metadata.json").read_text()
    assert '"letterbox"' in metadata
    assert '"neither"' in metadata


class Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Built:
    """The file tells the unpickler to call an allowed class: its constructor evaluates the activation."""

    def __init__(self, marker: Path) -> None:
        code = f"__import__('os').system('touch {marker}')"
        self.config = {"activation": code, "nc": 1, "ch": 3}
        self.config |= {"backbone": [[-1, 1, "Conv", [4, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}

    def __reduce__(self) -> tuple[Any, ...]:
        return tasks.DetectionModel, (self.config,)


def _another_object(model: Any, marker: Path) -> None:
    model.note = Touch(marker)


def _a_call_of_an_allowed_class(model: Any, marker: Path) -> None:
    model.note = Built(marker)


def _a_hook(model: Any, marker: Path) -> None:
    model._forward_hooks = OrderedDict({0: torch.nn.SiLU()})


def _another_forward(model: Any, marker: Path) -> None:
    model.__dict__["forward"] = torch.nn.SiLU()


def _another_layer(model: Any, marker: Path) -> None:
    model.extra = torch.nn.LSTM(2, 2)


@pytest.mark.parametrize(
    "change", [_another_object, _a_hook, _another_forward, _another_layer], ids=lambda change: change.__name__
)
def test_anything_else_is_refused(change: Callable[[Any, Path], None], tmp_path: Path) -> None:
    model = network("classify")
    change(model, tmp_path / "ran")

    with pytest.raises(UnsafeCheckpoint, match="refused"):
        sources.load(save(model, tmp_path / "model.pt"), {})

    assert not (tmp_path / "ran").exists()


def test_a_constructor_is_never_called(tmp_path: Path) -> None:
    model = network("classify")
    _a_call_of_an_allowed_class(model, tmp_path / "ran")
    path = save(model, tmp_path / "model.pt")

    sources.load(path, {})
    assert not (tmp_path / "ran").exists()

    with contextlib.suppress(Exception):  # whatever it meets once the code has run
        torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_checkpoint_without_a_network_says_what_to_do(tmp_path: Path) -> None:
    torch.save({"model": None, "other": network("classify")}, tmp_path / "model.pt")

    with pytest.raises(InvalidSource, match="Save it with YOLO"):
        sources.load(tmp_path / "model.pt", {})


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": ["batch", 3, "height", "width"]},
        {"shape": ["batch", 3, 64, "width"]},
        {"shape": ["batch", 3, 64, 65]},
        {"shape": ["batch", 1, 64, 64]},
        {"shape": ["batch", 3]},
        {"shape": ["batch", 3, 64, 64], "dtype": "uint8"},
    ],
    ids=str,
)
def test_inputs_have_the_size_that_the_grid_is_made_for(entry: dict[str, Any], tmp_path: Path) -> None:
    path = save(network("detect"), tmp_path / "model.pt")

    with pytest.raises(UnsupportedOption, match=r"multiples of 32, not names.* Send inputs="):
        sources.load(path, {"inputs": [entry]})


@pytest.mark.parametrize("given", ["large", [64], 3])
def test_training_arguments_of_another_type_are_refused(given: Any, tmp_path: Path) -> None:
    path = save(network("classify"), tmp_path / "model.pt", train_args=given)

    with pytest.raises(InvalidSource, match="train_args of the checkpoint are not a dictionary"):
        sources.load(path, {})
