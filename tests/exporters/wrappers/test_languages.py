"""Every format has a wrapper in every language, or a reason why not."""

from pathlib import Path

import pytest

from exporters import registry, wrappers

from .declarations import DECLARATIONS

FORMATS = [spec.name for spec in registry.specifications()]
LANGUAGES = {"python", "cpp", "swift", "kotlin"}


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_language_has_a_wrapper_or_says_why_not(format_name: str, tmp_path: Path) -> None:
    paths, reasons = wrappers.paths(format_name), wrappers.why_not(format_name)
    assert set(paths) | set(reasons) == set(wrappers.LANGUAGES) == LANGUAGES
    assert set(paths) & set(reasons) == set()

    versions = {"onnxruntime": "1.31.1", "numpy": "2.2", "openvino": "2026.4.1", "torch": "2.13.0"}
    wrappers.write(tmp_path, DECLARATIONS[0].metadata(format_name), versions)

    written = {path.name for path in (tmp_path / "runtimes").iterdir()}
    assert written == set(paths)
    assert all((tmp_path / path).is_file() for path in paths.values())
    readme = (tmp_path / "README.md").read_text()
    assert all(reason in readme for reason in reasons.values())


def test_which_pairs_there_are() -> None:
    assert {name: set(language.formats) for name, language in wrappers.LANGUAGES.items()} == {
        "python": set(FORMATS),
        "cpp": {"onnx", "openvino", "torchscript", "tflite", "tensorrt"},
        "swift": {"coreml", "onnx", "tflite"},
        "kotlin": {"onnx", "tflite", "torchscript"},
    }


def test_a_dtype_that_a_language_cannot_pass_is_the_reason() -> None:
    assert "swift" not in wrappers.paths("onnx", {"float32", "float64"})
    assert wrappers.why_not("onnx", {"float64"}) == {
        "swift": "The runtime's package for it does not support float64."
    }
    assert "swift" in wrappers.paths("tflite", {"float64"})
