"""``torch.save(model)``: refused, unless the operator said that every file may run code."""

from pathlib import Path

import pytest
import torch

from exporters import sources
from exporters.convert import run
from exporters.errors import UnsafeCheckpoint, UnsupportedOption
from exporters.request import ExportRequest, Trust

from ..models import Mlp


def _save(folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save(Mlp().eval(), folder / "model.pt")
    return folder / "model.pt"


def test_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.export\.save"):
        sources.load(_save(tmp_path), {"inputs": [{"shape": ["batch", 6]}]})


def test_an_operator_who_trusts_every_file_gets_it_verified(tmp_path: Path) -> None:
    options = {"inputs": [{"shape": ["batch", 6]}]}

    result = run(ExportRequest(_save(tmp_path), tmp_path / "out", "onnx", options=options, allow_unsafe=True))

    assert result.verdict == "verified"


def test_it_asks_for_the_shapes(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOption, match="does not record the shapes of its inputs"):
        sources.load(_save(tmp_path), {}, Trust(unsafe_checkpoints=True))
