"""What the code of a TorchScript file may name; torch itself would take every spelling here."""

from pathlib import Path

import pytest
import torch
from torch import nn

from exporters.errors import InvalidSource, UnsafeCheckpoint
from exporters.sources.torchscript import check_code

FROM_FILE = 'x = torch.from_file("/etc/passwd", False, 8)'


def archive(path: Path, code: str, *names: str) -> Path:
    writer = torch._C.PyTorchFileWriter(str(path))
    text = f"class M(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    {code}\n    return x\n"
    for name in names or ("code/__torch__/m.py",):
        writer.write_record(name, text.encode(), len(text.encode()))
    writer.write_end_of_file()
    return path


@pytest.mark.parametrize(
    "code",
    [
        FROM_FILE,
        'x = torch . from_file("/etc/passwd", False, 8)',
        'x = torch.\\\n from_file("/etc/passwd", False, 8)',
        'x = (torch. # a comment\n from_file("/etc/passwd", False, 8))',
        'x = ops.aten . from_file("/etc/passwd", False, 8)',
        'x = getattr(torch, "from_file")("/etc/passwd", False, 8)',
        'x = getattr(torch, "\\x66rom_file")("/etc/passwd", False, 8)',
        "t = torch\n    t.sin(x)",
        "o = ops\n    o.evil.run(x)",
        'torch .save(x, "/tmp/x")',
        "ops . evil . run(x)",
        "ops.evil.run(x)",
    ],
)
def test_what_reaches_beyond_the_model_is_refused_however_it_is_spelled(code: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeCheckpoint, match="TorchScript code calls"):
        check_code(archive(tmp_path / "model.pt", code))


@pytest.mark.parametrize("name", ["Code/__torch__/m.py", "code/__torch__/m.PY", "CODE/__torch__/M.Py"])
def test_code_is_looked_at_in_any_case_of_its_name(name: str, tmp_path: Path) -> None:
    """torch finds it under each of these names."""
    path = archive(tmp_path / "model.pt", FROM_FILE, name)
    assert torch._C.PyTorchFileReader(str(path)).has_record("code/__torch__/m.py")

    with pytest.raises(UnsafeCheckpoint, match="TorchScript code calls"):
        check_code(path)


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt", "y = x", "code/__torch__/m.py", "code/__torch__/M.py")

    with pytest.raises(UnsafeCheckpoint, match="two parts of one name"):
        check_code(path)


def test_the_first_layout_names_code_of_its_own(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt", "y = x", "Model.json")

    with pytest.raises(InvalidSource, match=r"torch before 1\.2"):
        check_code(path)


@pytest.mark.parametrize(
    "code",
    [
        'y = getattr(self.layers, "0").forward(x)',
        "x = ops.prim.NumToTensor(torch.size(x, 0))",
        'raise Exception("save the torch model again")',
        "x = torch.upsample(x, self.saved, self.ops)",
    ],
)
def test_what_networks_say_is_taken(code: str, tmp_path: Path) -> None:
    check_code(archive(tmp_path / "model.pt", code))


def test_a_real_network_is_taken(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.ReLU()), nn.Flatten())
    torch.jit.script(network.eval()).save(str(tmp_path / "model.pt"))

    check_code(tmp_path / "model.pt")
