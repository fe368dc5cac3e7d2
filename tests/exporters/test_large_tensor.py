"""One tensor above 2 GiB, which no protobuf message holds. Takes 8 GB of memory and two minutes each."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from exporters import runners
from exporters.convert import run
from exporters.formats import onnx_file
from exporters.request import ExportRequest

ROWS, WIDTH = 537_000, 1_000  # of float32: 2.148 GB, a little more than 2**31 bytes


class Looked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH)
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.last(self.table(ids).mean(1))
        return answer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by another process, whose memory is free again when the export begins."""
    path = tmp_path_factory.mktemp("large") / "model.pt2"
    subprocess.run(
        [sys.executable, "-c", f"from {__name__} import save; save({str(path)!r})"],
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return path


def save(path: str) -> None:
    torch.manual_seed(0)
    dynamic = ({0: torch.export.Dim("batch")},)
    ids = torch.zeros(2, 3, dtype=torch.int64)
    torch.export.save(torch.export.export(Looked().eval(), (ids,), dynamic_shapes=dynamic), path)


@pytest.mark.large
@pytest.mark.parametrize(
    ("format_name", "file"), [("onnx", "model.onnx.data"), ("openvino", "model.bin")], ids=lambda one: one
)
def test_a_model_with_one_is_verified(format_name: str, file: str, checkpoint: Path, tmp_path: Path) -> None:
    result = run(ExportRequest(checkpoint, tmp_path / "package", format_name))

    assert result.verdict == "verified"
    assert (result.package_dir / file).stat().st_size > 2**31
    ids = np.array([[0, 1, ROWS - 1], [ROWS - 2, 5, 7]])
    (answer,) = runners.load(result.package_dir).predict({"ids": ids}).values()
    program = torch.export.load(checkpoint)
    np.testing.assert_allclose(answer, program.module()(torch.from_numpy(ids)).detach(), atol=1e-5)


def test_its_size_is_known_without_serializing_it() -> None:
    tensor = onnx.TensorProto(dims=[ROWS, WIDTH], data_type=onnx.TensorProto.FLOAT)
    small = helper.make_tensor("small", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    model = helper.make_model(helper.make_graph([], "graph", [], [], [tensor, small]))

    assert onnx_file.weights_bytes(model) == ROWS * WIDTH * 4 + small.ByteSize()
