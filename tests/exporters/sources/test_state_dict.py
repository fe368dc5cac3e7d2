"""Weights alone, with the architecture they are of."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from exporters import sources
from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption
from exporters.request import ExportRequest, ExportResult, Trust

from ..reproducible import contents
from . import nets

NETS = nets.__name__
ALLOWED = [NETS.rpartition(".")[0]]
SCALE = {"architecture": f"{NETS}:Scale", "inputs": [{"shape": ["batch", 4]}]}


def _save(model: torch.nn.Module, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path


def _export(path: Path, options: dict[str, Any], modules: list[str] | None = None) -> ExportResult:
    request = ExportRequest(path, path.parent / "out", "onnx", options, allowed_modules=modules)
    return run(request)


@pytest.mark.parametrize(
    ("suffix", "name", "made_with", "options"),
    [
        (
            ".pt",
            "resnet18",
            {"num_classes": 7, "in_chans": 1},
            {
                "architecture": "timm:resnet18",
                "inputs": [{"name": "image", "shape": ["batch", 1, 32, 32]}],
            },
        ),
        (
            ".safetensors",
            "mobilenetv3_small_050",
            {"num_classes": 5},
            {"architecture": "timm:mobilenetv3_small_050", "inputs": [{"shape": ["batch", 3, 64, 64]}]},
        ),
        (
            ".pth",
            "vit_tiny_patch16_224",
            {"num_classes": 5, "img_size": 32, "depth": 1},
            {"architecture": "timm:vit_tiny_patch16_224?img_size=32&depth=1"},
        ),
    ],
)
def test_a_model_of_timm_is_verified(
    suffix: str, name: str, made_with: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    path = _save(timm.create_model(name, **made_with), tmp_path / f"model{suffix}")

    result = _export(path, options)

    assert result.verdict == "verified"
    assert result.converter == "dynamo"
    sizes = {
        case["input_shapes"]["image" if name == "resnet18" else "input"][0]
        for case in result.fidelity["cases"]
    }
    assert sizes == {0, 1, 2, 3, 7}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (
            nets.Tagger(hidden=8),
            {
                "architecture": f"{NETS}:Tagger?hidden=8",
                "inputs": [{"shape": ["batch", "length"], "dtype": "int64"}],
            },
        ),
        (nets.Summary(), {"architecture": f"{NETS}:Summary", "inputs": [{"shape": ["batch", "length", 3]}]}),
    ],
    ids=["LSTM", "GRU"],
)
def test_a_recurrent_net_of_an_allowed_package_is_verified_at_any_length(
    model: torch.nn.Module, options: dict[str, Any], tmp_path: Path
) -> None:
    result = _export(_save(model, tmp_path / "model.pt"), options, ALLOWED)

    assert result.verdict == "verified"
    shapes = [next(iter(case["input_shapes"].values()))[:2] for case in result.fidelity["cases"]]
    assert {batch for batch, _ in shapes} == {1, 2, 3, 7}
    assert {1, 2, 16} < {length for _, length in shapes}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"epoch": 3, "state_dict": weights, "args": argparse.Namespace(lr=0.1)},
        lambda weights: {"model_state_dict": weights, "optimizer": {"lr": 0.1}},
        lambda weights: {"model": {f"module.{name}": value for name, value in weights.items()}},
        lambda weights: {f"_orig_mod.{name}": value.half() for name, value in weights.items()},
    ],
    ids=["state_dict", "model_state_dict", "DataParallel", "compiled and half"],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
def test_what_a_training_loop_wraps_around_the_weights_is_taken_off(
    wrap: Callable[[Any], Any], legacy: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nets.Scale().eval()
    torch.save(wrap(model.state_dict()), tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)

    source = sources.load(tmp_path / "m.pt", SCALE, Trust(modules=(NETS,)))

    row = torch.randn(3, 4)
    with torch.no_grad():
        expected = model(row)
    assert source.kind == sources.detect(tmp_path / "m.pt") == "state_dict"
    torch.testing.assert_close(
        torch.from_numpy(source.reference({"x": row.numpy()})["output"]), expected, rtol=1e-2, atol=1e-3
    )


def test_equal_weights_give_equal_programs(tmp_path: Path) -> None:
    path = _save(nets.Scale(), tmp_path / "m.pt")

    for folder in ("one", "two"):
        request = ExportRequest(path, tmp_path / folder, "onnx", SCALE, allowed_modules=ALLOWED)
        assert run(request).verdict == "verified"

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_architecture_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOption, match=r"timm:NAME .* hf:config\.json") as caught:
        _export(_save(nets.Scale(), tmp_path / "m.pt"), {})

    assert caught.value.allowed == ["timm:NAME", "hf:config.json", "package.module:Class"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("modules", [None, [], ["torch"], [NETS[:-1]]])
def test_a_class_of_another_package_is_not_imported(modules: list[str] | None, tmp_path: Path) -> None:
    path = _save(nets.Scale(), tmp_path / "m.pt")

    with pytest.raises(UnsafeCheckpoint, match="EXPORT_ALLOWED_MODULES") as caught:
        _export(path, SCALE, modules)

    assert caught.value.details["allowed"] == (modules or [])


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ("resnet18", "not of the form"),
        ("timm:hf-hub:someone/model", "not of the form"),
        ("hf:../other/config.json", "not of the form"),
        (f"{NETS}:SYSTEM.x", "not of the form"),
        (f"{NETS}:SYSTEM", "no torch.nn.Module with the name SYSTEM"),
        (f"{NETS}:Scale?size=4", "unexpected keyword argument 'size'"),
        ("timm:resnet17", r"similar names: .*resnet18"),
        ("timm:resnet18?checkpoint_path=/etc/passwd", "checkpoint_path cannot be set"),
        ("timm:resnet18?pretrained_cfg_overlay={}", "pretrained_cfg_overlay cannot be set"),
        ("timm:resnet18?device=cuda", "device cannot be set"),
        ("timm:resnet18?no_such=1", "no_such"),
    ],
)
def test_an_architecture_that_is_none_is_refused(architecture: str, says: str, tmp_path: Path) -> None:
    path = _save(nets.Scale(), tmp_path / "m.pt")

    with pytest.raises(UnsupportedOption, match=says):
        _export(path, {**SCALE, "architecture": architecture}, ALLOWED)


def test_a_class_needs_the_shapes_of_its_inputs(tmp_path: Path) -> None:
    path = _save(nets.Scale(), tmp_path / "m.pt")

    with pytest.raises(UnsupportedOption, match=r"Scale does not record the shapes of its inputs .x."):
        _export(path, {"architecture": SCALE["architecture"]}, ALLOWED)


def test_weights_of_another_network_say_which_names_differ(tmp_path: Path) -> None:
    weights = nets.Scale().state_dict()
    torch.save(
        {"layer.weight": weights["layer.weight"][:2], "head.bias": weights["layer.bias"]}, tmp_path / "m.pt"
    )

    with pytest.raises(InvalidSource) as caught:
        _export(tmp_path / "m.pt", SCALE, ALLOWED)

    assert caught.value.details == {
        "missing": ["layer.bias"],
        "unexpected": ["head.bias"],
        "shapes": ["layer.weight [2, 4] instead of [4, 4]"],
    }


def test_shapes_that_the_network_does_not_take_are_the_users_to_correct(tmp_path: Path) -> None:
    path = _save(nets.Scale(), tmp_path / "m.pt")

    with pytest.raises(InvalidSource, match=r"fails on inputs of the shapes x \['batch', 5\]"):
        _export(path, {**SCALE, "inputs": [{"shape": ["batch", 5]}]}, ALLOWED)


class _Command:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
def test_a_command_among_the_weights_is_not_run(legacy: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    weights = {**nets.Scale().state_dict(), "x": _Command(marker)}
    torch.save(weights, tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)

    with pytest.raises(UnsafeCheckpoint):
        _export(tmp_path / "m.pt", SCALE, ALLOWED)

    assert not marker.exists()


def test_a_command_is_not_run_where_detection_was_deceived(tmp_path: Path) -> None:
    """The loader is the gate, not what the file claims to be."""
    from exporters.sources import state_dict

    marker = tmp_path / "ran"
    torch.save({"x": _Command(marker)}, tmp_path / "m.pt")

    with pytest.raises(UnsafeCheckpoint, match="more than weights"):
        state_dict.read(tmp_path / "m.pt")

    assert not marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"weight": 3}, {"state_dict": {"x": "y"}}])
def test_a_file_without_weights_says_what_to_save(content: Any, tmp_path: Path) -> None:
    from exporters.sources import state_dict

    torch.save(content, tmp_path / "m.pt")

    with pytest.raises(InvalidSource, match=r"model\.state_dict\(\)"):
        state_dict.read(tmp_path / "m.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_was_cut_short_is_damaged(suffix: str, tmp_path: Path) -> None:
    path = _save(nets.Scale(), tmp_path / f"m{suffix}")
    path.write_bytes(path.read_bytes()[:-60])

    with pytest.raises(InvalidSource):
        _export(path, SCALE, ALLOWED)


def test_weights_that_are_only_unsupported_are_not_called_damaged(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")

    with pytest.raises(InvalidSource, match="dtypes that torch supports") as caught:
        _export(tmp_path / "m.safetensors", SCALE, ALLOWED)

    assert "damaged" not in caught.value.message


def test_an_encrypted_archive_is_unsupported_and_a_cut_one_damaged(tmp_path: Path) -> None:
    path = _save(nets.Scale(), tmp_path / "m.pt")
    content = path.read_bytes()
    locked = bytearray(content)
    position = locked.find(b"PK\x01\x02")
    while position >= 0:
        name = locked[position + 46 :][: int.from_bytes(locked[position + 28 : position + 30], "little")]
        locked[position + 8] |= name.endswith(b"data.pkl")  # bit 0 of the flags: encrypted
        position = locked.find(b"PK\x01\x02", position + 1)
    path.write_bytes(locked)
    with pytest.raises(InvalidSource, match=r"is not supported: .*encrypted"):
        _export(path, SCALE, ALLOWED)
