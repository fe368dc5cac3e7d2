"""Non-maximum suppression in the graph: the same boxes as the host finds, in every format of networks."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from exporters import registry, runners
from exporters.convert import run
from exporters.errors import UnsupportedOption
from exporters.processing import embed_nms
from exporters.processing.declared import RAW_FORMATS, complete_postprocessing
from exporters.processing.detect import detect
from exporters.processing.image import Geometry
from exporters.proof import golden
from exporters.request import ExportRequest

PREPROCESSING = {"resize": {"method": "letterbox", "size": [32, 32], "stride": 32}}
POSTPROCESSING: dict[str, Any] = {
    "nms": {"confidence_threshold": 0.5, "iou_threshold": 0.3, "max_detections": 8}
}
QUICK = {"onnx", "openvino", "torchscript"}
FORMATS = [
    pytest.param(spec.name, marks=() if spec.name in QUICK else pytest.mark.large)
    for spec in registry.specifications()
    if spec.embeds
]


class Detector(nn.Module):
    """float32[batch, 3, 32, 32] to float32[batch, 4 + 3, 16]: large boxes that overlap, and spread scores."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 7, 8, stride=8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        values = self.features(image).flatten(2)
        return torch.cat([values[:, :4].sigmoid() * 32, (values[:, 4:] * 4).sigmoid()], 1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("nms") / "detector.pt2"
    dynamic = ({0: torch.export.Dim("batch", max=16)},)
    program = torch.export.export(Detector().eval(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return path


def request(source: Path, folder: Path, format_name: str, **declared: Any) -> ExportRequest:
    options: dict[str, Any] = {"embed_postprocessing": True}
    if format_name == "tensorrt":
        options["build_on_target"] = True
    given = {"preprocessing": PREPROCESSING, "postprocessing": POSTPROCESSING, **declared}
    return ExportRequest(source, folder / "out", format_name, options=options, **given)


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_artefact_finds_the_boxes_that_the_host_finds(
    format_name: str, source: Path, tmp_path: Path
) -> None:
    result = run(request(source, tmp_path, format_name))

    document = json.loads((tmp_path / "out/metadata.json").read_bytes())
    assert list(document["output_spec"]) == ["detections", "output"]
    assert document["output_spec"]["detections"]["format"] == "xyxy_conf_class"
    if format_name == "coreml":
        assert result.verdict == "converted_not_executed"
        return
    fidelity = result.fidelity.get("stand_in", result.fidelity)
    assert fidelity["verdict"] == "verified"
    assert fidelity["outputs"]["detections"]["rows_compared"] > 10
    if format_name == "tensorrt":
        return
    runner = runners.load(tmp_path / "out")
    assert golden.replay(tmp_path / "out", runner) == []
    image = golden.read(tmp_path / "out/golden.npz").inputs
    outputs = runner.predict(image)
    before, after = complete_postprocessing(POSTPROCESSING), document["postprocessing"]
    assert before is not None
    geometries = [Geometry(32, 32, 32, 32, 0, 0, 32, 32)] * len(outputs["output"])
    plain = detect(outputs["output"], geometries, before, None)  # type: ignore[arg-type]  # floats
    embedded = detect(outputs["detections"], geometries, after, None)  # type: ignore[arg-type]
    assert [len(found) for found in embedded] == [len(found) for found in plain]
    for one, other in zip(chain(*embedded), chain(*plain), strict=True):
        assert one["class_id"] == other["class_id"]
        np.testing.assert_allclose([one["confidence"], *one["bbox"]], [other["confidence"], *other["bbox"]])


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("coordinates", ["absolute", "normalized"])
@pytest.mark.parametrize("form", RAW_FORMATS)
def test_the_graph_computes_what_the_host_does(form: str, coordinates: str, agnostic: bool) -> None:
    """Of crowded boxes in every form; 400 of them, of which the best 300 enter."""
    random = np.random.default_rng(7)
    start, size = random.uniform(0, 40, (2, 400, 2)), random.uniform(8, 24, (2, 400, 2))
    scores = random.permutation(800).reshape(2, 400, 1) / 800  # no two are equal
    ids = random.integers(0, 3, (2, 400, 1))
    kind, _, rest = form.partition("_")
    boxes = {"xyxy": (start, start + size), "xywh": (start, size), "cxcywh": (start + size / 2, size)}[kind]
    box = np.concatenate(boxes, 2) / (64 if coordinates == "normalized" else 1)
    each = (np.arange(3) == ids) * scores
    parts = {
        "classes": [each],
        "conf_classes": [np.full_like(scores, 0.9), each],
        "conf_class": [scores, ids],
    }
    raw = np.concatenate([box, *parts[rest]], 2).astype(np.float32)
    after = complete_postprocessing(
        {
            "nms": {"class_agnostic": agnostic, "max_detections": 50},
            "raw_output": {"format": form, "layout": "anchors_values", "coordinates": coordinates},
        }
    )
    assert after is not None
    declared = {"output": "output", "size": [64, 64], "nms": after["nms"], "raw_output": after["raw_output"]}

    host = embed_nms.on_the_host(raw, declared)

    assert (host[:, :, 4] > 0).sum() > 20
    graph = embed_nms._detections(torch.from_numpy(raw), declared).numpy()
    np.testing.assert_allclose(graph, host, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_embedded_is_refused(source: Path, tmp_path: Path) -> None:
    many = {"nms": {**POSTPROCESSING["nms"], "max_detections": 1001}}
    for change, message in (
        ({"postprocessing": None}, "declares none"),
        ({"postprocessing": {"softmax": True}}, "declares none"),
        ({"postprocessing": many}, "at most 1000 detections"),
    ):
        with pytest.raises(UnsupportedOption, match=message) as caught:
            run(request(source, tmp_path, "onnx", **change))
        assert caught.value.details["option"] == "embed_postprocessing"
        assert not (tmp_path / "out").exists()
