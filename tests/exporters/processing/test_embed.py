"""What is in the graph is what a host would have done."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from exporters import registry, runners
from exporters.convert import run
from exporters.errors import UnsupportedOption
from exporters.processing.classify import probabilities
from exporters.processing.declared import complete_preprocessing
from exporters.processing.image import convert
from exporters.request import ExportRequest

PREPROCESSING: dict[str, Any] = {
    "resize": {"method": "letterbox", "size": [16, 8]},
    "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "format": {"color_space": "BGR"},
}
GREY: dict[str, Any] = {
    "normalize": {"mean": [33.0], "std": [78.0]},
    "format": {"color_space": "GRAY", "output_layout": "NHWC"},
}


class Classifier(nn.Module):
    """float32[batch, 3, 8, 16] to float32[batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Classifier().eval()


@pytest.fixture(scope="module")
def source(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embed") / "model.pt2"
    dynamic = ({0: torch.export.Dim("batch", max=64)},)
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 8, 16),), dynamic_shapes=dynamic), path)
    return path


def _pixels(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, 8, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["pt2", "torchscript"])
def test_a_network_that_takes_pixels_answers_like_one_that_was_fed_by_a_host(
    kind: str, model: nn.Module, source: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"embed_preprocessing": True}
    if kind == "torchscript":
        source = tmp_path / "model.pt"
        torch.jit.save(torch.jit.script(model), source)
        options["inputs"] = [{"shape": ["batch", 3, 8, 16], "dtype": "float32"}]

    result = run(
        ExportRequest(
            source,
            tmp_path / "out",
            "onnx",
            options=options,
            preprocessing=PREPROCESSING,
            postprocessing={"softmax": True},
        )
    )

    assert result.verdict == "verified"
    metadata = json.loads((tmp_path / "out/metadata.json").read_bytes())
    assert metadata["preprocessing"]["embedded"] is metadata["postprocessing"]["embedded"] is True
    assert metadata["input_spec"]["shape"] == ["batch", 8, 16, 3]
    assert metadata["input_spec"]["dtype"] == "uint8"
    runner = runners.load(tmp_path / "out")
    for batch in (1, 5):
        tensor = torch.from_numpy(convert(_pixels(batch), metadata["preprocessing"]))
        with torch.no_grad():
            expected = probabilities(model(tensor).numpy())
        actual = runner.predict({runner.inputs[0].name: _pixels(batch)})["output"]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("declared", [PREPROCESSING, GREY], ids=["BGR, NCHW", "GRAY, NHWC"])
def test_an_onnx_file_gets_its_nodes_in_front(declared: dict[str, Any], tmp_path: Path) -> None:
    completed = complete_preprocessing(declared)
    assert completed is not None
    shape = ["batch", 8, 16, 1] if declared is GREY else ["batch", 3, 8, 16]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "factor"], ["scores"]),
        ],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", shape[1]])],
        [
            numpy_helper.from_array(np.array([2, 3]), "axes"),
            numpy_helper.from_array(np.array(3.0, np.float32), "factor"),
        ],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(network, tmp_path / "network.onnx")
    original = runners.open_artefact("onnx", tmp_path / "network.onnx")

    result = run(
        ExportRequest(
            tmp_path / "network.onnx",
            tmp_path / "out",
            "onnx",
            options={"embed_preprocessing": True},
            preprocessing=declared,
            postprocessing={"softmax": True},
        )
    )

    assert result.verdict == "verified"
    extended = runners.load(tmp_path / "out")
    assert extended.inputs[0].shape == ("batch", 8, 16, 3)
    expected = original.predict({"image": convert(_pixels(3), completed)})["scores"]
    actual = extended.predict({"image": _pixels(3)})["scores"]
    np.testing.assert_allclose(actual, probabilities(expected), rtol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocessing": None}, "none is declared"),
        ({"preprocessing": {"tokenizer": {}}}, "none is declared"),
        ({"preprocessing": {"resize": {"method": "resize", "size": [8, 16]}}}, "produces float32"),
        ({"preprocessing": {"format": {"dtype": "float16"}}}, "produces float16"),
        ({"preprocessing": {"format": {"color_space": "GRAY"}}}, "'any', 'any'"),
        ({"postprocessing": {"nms": {}}}, "three axes"),
        ({"classes": ["one", "two"]}, "4 classes, but 2 class names are declared"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_model_is_refused(
    change: dict[str, Any], message: str, source: Path, tmp_path: Path
) -> None:
    declared = {"preprocessing": PREPROCESSING, "postprocessing": {"top_k": 2}, **change}
    request = ExportRequest(
        source, tmp_path / "out", "onnx", options={"embed_preprocessing": True}, **declared
    )

    with pytest.raises(UnsupportedOption, match=message) as caught:
        run(request)

    assert caught.value.allowed
    assert not (tmp_path / "out").exists()


def test_a_format_that_cannot_says_what_it_takes(tmp_path: Path) -> None:
    options = {"embed_preprocessing": True}

    with pytest.raises(UnsupportedOption, match="pickle has no option 'embed_preprocessing'"):
        run(ExportRequest(tmp_path / "model.skops", tmp_path / "out", "pickle", options=options))


@pytest.mark.parametrize("format_name", [spec.name for spec in registry.specifications() if spec.embeds])
def test_every_format_of_networks_takes_pixels(format_name: str, source: Path, tmp_path: Path) -> None:
    options = {"embed_preprocessing": True}
    if format_name == "tensorrt":
        options["build_on_target"] = True
    result = run(
        ExportRequest(
            source,
            tmp_path / "out",
            format_name,
            options=options,
            preprocessing=PREPROCESSING,
            postprocessing={"softmax": True},
        )
    )

    spec = json.loads((tmp_path / "out/metadata.json").read_bytes())["input_spec"]
    assert (spec["dtype"], spec["format"], spec["shape"][1:]) == ("uint8", "NHWC", [8, 16, 3])
    if registry.specification(format_name).runs_on is None:
        assert result.verdict == "verified"
    elif format_name == "tensorrt":
        assert result.fidelity["stand_in"]["verdict"] == "verified"
