"""The summary says what is true of the package, and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporters.delivery import summary
from exporters.wrappers import summary as markdown
from tests.exporters.wrappers.test_swift import parsed

from .conftest import Packages, unpacked


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| ([a-z ]+) \| (.*) \|$", text, re.MULTILINE))


def code(text: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found.splitlines()) <= 5
    return str(found)


def test_the_summary_of_a_verified_export(packages: Packages, tmp_path: Path) -> None:
    text = summary.of(packages("onnx"))

    found = rows(text)
    assert text.startswith("# pets v3: onnx\n")
    assert found["model"] == "pets, version v3"
    assert found["format"].startswith("onnx, opset 18, converted from pt2")
    assert found["quantization"] == "none"
    assert found["classes"] == "3: cat, dog, bird"
    assert found["proof"].startswith("verified: compared with the source model in eager mode, 13 rows")
    assert "`model.onnx`" in found["size"]
    assert "| input | `image` | float32 | batch \u00d7 3 \u00d7 32 \u00d7 32 |" in text
    assert "`batch` from 1 to 64." in text
    folder = unpacked(packages("onnx"), tmp_path / "package")
    assert (folder / "README.md").read_text().startswith(text)


def test_the_summary_of_an_export_that_did_not_run(packages: Packages) -> None:
    found = rows(summary.of(packages("coreml")))

    assert found["proof"].startswith("converted, not executed: Core ML only runs on Apple's systems")
    assert found["not run"].startswith("the artefact itself and the generated code (Python, Swift)")


def test_the_python_code_runs(packages: Packages, tensors: Path, tmp_path: Path) -> None:
    for number, path in enumerate((packages("onnx"), tensors)):
        folder = unpacked(path, tmp_path / str(number))
        Image.fromarray(np.full((40, 50, 3), 120, np.uint8)).save(folder / "image.jpg")
        program = code(summary.of(path), "python")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_code_of_the_phones_parses(packages: Packages, tensors: Path) -> None:
    tree_sitter = pytest.importorskip("tree_sitter")
    kotlin = tree_sitter.Parser(tree_sitter.Language(pytest.importorskip("tree_sitter_kotlin").language()))
    for path in (packages("onnx"), tensors):
        text = summary.of(path)
        parsed(code(text, "swift").encode())
        body = f"fun main() {{\n{code(text, 'kotlin')}}}\n".encode()
        assert not kotlin.parse(body).root_node.has_error


def test_a_name_stays_a_name() -> None:
    metadata = {
        "model_info": {"model_name": "a | b\n<script>`*", "export_format": "onnx"},
        "input_spec": {"name": "x`|", "dtype": "float32", "shape": ["batch", 2]},
        "output_spec": {"y": {"name": "y", "dtype": "float32", "shape": ["batch", 2]}},
        "classes": [{"id": 0, "name": "[link](evil)\n# title"}],
    }

    text = markdown.markdown(metadata, None, {"model.onnx": 1}, ["python", "kotlin"])

    assert "<script>" not in text
    assert r"| model | a \| b \<script\>\`\* |" in text
    assert r"| classes | 1: \[link\](evil) \# title |" in text
    assert r"| input | `x'\|` |" in text
    assert "the package has no report of a comparison" in text


def test_what_was_quantized_is_named() -> None:
    metadata = {
        "model_info": {"model_name": None, "export_format": "onnx"},
        "input_spec": {"name": "x", "dtype": "float32", "shape": ["batch", 2]},
        "output_spec": {"y": {"name": "y", "dtype": "float32", "shape": ["batch", 2]}},
        "artefact": {"files": ["model.onnx"], "quantization": "static"},
    }
    judged = {"judged_on": "the rows of a dataset"}
    fidelity = {"verdict": "verified", "reference": "the source", "optimization": judged, "outputs": {}}

    found = rows(markdown.markdown(metadata, fidelity, {"model.onnx": 1200}, []))

    assert found["quantization"] == "static"
    assert found["size"] == "1,200 bytes: `model.onnx`"
    assert found["proof"].endswith("after its optimisation judged on the rows of a dataset")
    assert "not run" not in found
