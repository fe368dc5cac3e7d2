"""What a TorchScript file may do while torch loads it, and what its graph may use."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from exporters.errors import InvalidSource, UnsafeCheckpoint
from exporters.sources import torchscript_gate
from exporters.sources.torchscript import read


def archive(path: Path, code: str, *names: str) -> Path:
    """An archive of parts alone: refused before torch reads it as a model, or not."""
    writer = torch._C.PyTorchFileWriter(str(path))
    for name in names or ("code/__torch__/m.py",):
        writer.write_record(name, code.encode(), len(code.encode()))
    writer.write_end_of_file()
    return path


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x)


def edited(path: Path, code: str) -> Path:
    """``Plain`` with other lines in its archive, as torch writes them or as it only reads them."""
    torch.jit.script(Plain()).save(str(path))
    reader = torch._C.PyTorchFileReader(str(path))
    parts = {name: reader.get_record(name) for name in reader.get_all_records()}
    del reader
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, part in parts.items():
        if name not in (".data/serialization_id", "version"):
            text = part.replace(b"    return torch.sin(x)\n", code.encode()) if name.endswith(".py") else part
            assert not name.endswith(".py") or text != part
            writer.write_record(name, text, len(text))
    writer.write_end_of_file()
    return path


REFUSED = {
    "a file as a tensor": 'return torch.from_file("/etc/passwd", False, 8)',
    "a file written": 'torch.save(x, "/tmp/x")\nreturn x',
    "in a branch": "if bool(torch.gt(torch.sum(x), 1000000.0)):\n"
    '  x = torch.from_file("/etc/passwd", False, 8)\nreturn x',
    "sparse indices nobody checks": "i = torch.tensor([0, 1])\n"
    "y = torch._sparse_csr_tensor_unsafe(i, torch.tensor([1000000]), x, [1, 2])\nreturn torch.matmul(y, x)",
    "sparse rows": "i = torch.tensor([[0], [9]])\nreturn torch.sparse_coo_tensor(i, x, [2, 2]).to_dense()",
    "strides": "return torch.as_strided(x, [4], [1], 100000)",
    "strides in place": "return torch.as_strided_(x, [4], [1], 100000)",
    "strides without a name": "return torch._reshape_alias(x, [4], [1])",
    "memory nobody wrote": "return torch.empty([1024])",
    "memory nobody wrote, of its shape": "return torch.empty_like(x)",
    "more memory": "return torch.resize_(x, [1024])",
    "another storage": "return torch.set_(x, x)",
    "packed weights": "return torch.to_mkldnn(x).to_dense()",
    "lengths nobody checks": 'return torch.segment_reduce(x, "sum", lengths=torch.tensor([99]), unsafe=True)',
    "an alias of a builtin's name": "y = [x]\nreturn torch._make_dual(x, x, level=0)",
}


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
def test_operators_that_are_not_on_the_list_are_refused(code: str, tmp_path: Path) -> None:
    path = edited(tmp_path / "model.pt", textwrap.indent(code + "\n", "    "))

    with pytest.raises(UnsafeCheckpoint, match="which is refused") as caught:
        read(path)
    assert str(caught.value.details["part"]).startswith("aten::")


SPELLED = {
    "in two pieces": '    return getattr(torch, "from_" "file")("/etc/passwd", False, 8)\n',
    "with an escape": '    return getattr(torch, "\\x66rom_file")("/etc/passwd", False, 8)\n',
    "with an octal escape": '    return getattr(ops.aten, "from\\137file")("/etc/passwd", False, 8)\n',
    "by a name of its own": '    t = torch\n    return t.from_file("/etc/passwd", False, 8)\n',
    "by the name of the operators": '    o = ops\n    return o.aten.from_file("/etc/passwd", False, 8)\n',
    "as a method": '    torch.save(x, "/tmp/x")\n    return x\n',
    "over a line": '    return torch.\\\n    from_file("/etc/passwd", False, 8)\n',
}


@pytest.mark.parametrize("code", SPELLED.values(), ids=SPELLED)
def test_however_it_is_spelled(code: str, tmp_path: Path) -> None:
    """torch itself takes most of these spellings; some are an error of its own."""
    path = edited(tmp_path / "model.pt", code)

    with pytest.raises((UnsafeCheckpoint, InvalidSource)):
        read(path)


def test_at_least_the_pieces_and_octal_escapes_are_read_by_torch(tmp_path: Path) -> None:
    for name in ("in two pieces", "with an octal escape", "over a line"):
        with pytest.raises(UnsafeCheckpoint, match="aten::from_file"):
            read(edited(tmp_path / "model.pt", SPELLED[name]))


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("class M(Module):\n  def __setstate__(self, x: Tensor) -> None:\n    pass\n", "code/__torch__/m.py"),
        ("class M(Module):\n  def __setstate__(self, x: Tensor) -> None:\n    pass\n", "CODE/__torch__/M.Py"),
        ("c__torch__.torch.classes.quantized.LinearPackedParamsBase\n", "data.pkl"),
    ],
)
def test_what_runs_while_torch_loads_is_refused_unread(code: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeCheckpoint, match="runs while torch loads it"):
        torchscript_gate.check_archive(archive(tmp_path / "model.pt", code, name))


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt", "y = x", "code/__torch__/m.py", "code/__torch__/M.py")

    with pytest.raises(UnsafeCheckpoint, match="two parts with the same name"):
        read(path)


def test_the_first_layout_names_code_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match=r"torch before 1\.2"):
        read(archive(tmp_path / "model.pt", "y = x", "Model.json"))


def test_a_hook_is_looked_at_too(tmp_path: Path) -> None:
    class Hooked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    def hook(self: nn.Module, x: tuple[torch.Tensor], y: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(y)

    module = nn.Sequential(Hooked())
    module[0].register_forward_hook(hook)
    torch.jit.script(module).save(str(tmp_path / "model.pt"))

    with pytest.raises(UnsafeCheckpoint, match="aten::empty_like"):
        read(tmp_path / "model.pt")


class Detector(nn.Module):
    """Attributes that have the names of operators, words of files, lists, dictionaries and a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.resize, self.save, self.set = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: dict[str, list[torch.Tensor]] = {"save": []}
        for step in range(x.shape[1]):
            found["save"].append(self.set(self.save(self.resize(x[:, step]))))
        if x.dim() != 3:
            raise ValueError("save the torch model again")
        return self.lstm(torch.stack(found["save"], 1))[0]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.ReLU()), nn.Flatten()),
        (2, 1, 8, 8),
    ),
    "names of operators": (Detector, (2, 3, 4)),
    "attention": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        (2, 3, 8),
    ),
    "recurrent": (lambda: nn.GRU(4, 4, batch_first=True), (2, 3, 4)),
}


@pytest.mark.parametrize("method", ["script", "trace"])
@pytest.mark.parametrize(("make", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_networks_are_taken(
    make: Callable[[], nn.Module], shape: tuple[int, ...], method: str, tmp_path: Path
) -> None:
    network = make().eval()
    given = torch.randn(shape)
    module = (
        torch.jit.script(network)
        if method == "script"
        else torch.jit.trace(network, given, check_trace=False)
    )
    module.save(str(tmp_path / "model.pt"))

    read(tmp_path / "model.pt")
