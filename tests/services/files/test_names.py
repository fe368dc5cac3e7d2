"""Names of files: letters of all scripts, and nothing that could harm a file system or a reader."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.errors import InvalidField
from model_service.services.files.names import check_new_path, check_path, format_of, safe_filename


@pytest.mark.parametrize(
    ("sent", "kept", "file_format"),
    [
        ("модель.onnx", "модель.onnx", "onnx"),
        ("モデル.pt", "モデル.pt", "pytorch"),
        ("mode\u0300le v2.safetensors", "mod\u00e8le v2.safetensors", "safetensors"),
        ("कृ\u200dष.onnx", "कृ\u200dष.onnx", "onnx"),  # a joiner that some scripts need
        ("C:\\models\\модель.ONNX", "модель.ONNX", "onnx"),
        ("../../digits.pkl", "digits.pkl", "pickle"),
        ("gnp.\u202exnno.bin", "gnp.xnno.bin", "binary"),
        ("a\r\n\x00\u2028b.pt2", "ab.pt2", "torch_export"),
        ('what?:"<x>|*.npz', "whatx.npz", "npz"),
        (" .hidden.json ", "hidden.json", "json"),
    ],
)
def test_names(sent: str, kept: str, file_format: str) -> None:
    assert safe_filename(sent) == kept
    assert format_of(kept) == file_format


@pytest.mark.parametrize("nothing", [None, "", "..", "/", "\u202e", "\ud800", "///..", "\\"])
def test_what_names_no_file(nothing: str | None) -> None:
    assert safe_filename(nothing) == ""


@given(st.text(max_size=400))
def test_any_text_becomes_a_name_that_stays_itself(sent: str) -> None:
    name = safe_filename(sent)
    assert len(name.encode()) <= 200
    assert safe_filename(name) == name == unicodedata.normalize("NFC", name)
    if name:
        assert check_new_path(name) == name


def test_a_long_name_keeps_its_suffix() -> None:
    assert safe_filename("ж" * 300 + ".safetensors").endswith("жж.safetensors")
    assert len(safe_filename("x." + "ж" * 300).encode()) <= 200


def test_a_path_of_an_earlier_build_is_still_read_and_no_new_one_turns_the_text() -> None:
    assert check_path("a\u202eb.onnx") == "a\u202eb.onnx"
    with pytest.raises(InvalidField, match="direction of the text"):
        check_new_path("a\u202eb.onnx")
