"""Code that runs a package without this project, generated from the package's metadata.

    LANGUAGE/FILE.jinja              becomes runtimes/LANGUAGE/FILE of the package
    LANGUAGE/runtimes/FORMAT.jinja   code that opens and runs one format; FILE.jinja includes it

A language is an entry of LANGUAGES and its templates. No text that a user chose is written into code: a
wrapper reads labels and titles from metadata.json.
"""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base import Dimension
from ..processing import declared
from ..runners.bounded import bounds_of, text_of
from . import summary
from .rendering import render

_TEMPLATES = Path(__file__).parent
_PROCESSING = _TEMPLATES.parent / "processing"
# The reference implementation, which needs nothing else of this project.
_MODULES = (
    "__init__.py",
    "pipeline.py",
    "image.py",
    "resize.py",
    "text.py",
    "classify.py",
    "detect.py",
    "table.py",
    "vectorizer.py",
)


@dataclass(frozen=True)
class Language:
    """A language. ``files`` are relative to its folder, here and in the package; the wrapper comes first."""

    files: tuple[str, ...]
    formats: frozenset[str]
    # Path in the language's folder → file that is copied unchanged
    copied: Mapping[str, Path] = field(default_factory=dict)
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)  # file → the formats that need it
    why_not: Mapping[str, str] = field(default_factory=dict)  # format → why there is no wrapper
    lacks: Mapping[str, frozenset[str]] = field(
        default_factory=dict
    )  # format → dtypes of inputs it cannot pass

    def runs(self, format_name: str, dtypes: Collection[str]) -> bool:
        return format_name in self.formats and not self.lacks.get(format_name, frozenset()).intersection(
            dtypes
        )

    def refusal(self, format_name: str, dtypes: Collection[str]) -> str:
        lacking = sorted(self.lacks.get(format_name, frozenset()).intersection(dtypes))
        return (
            self.why_not.get(format_name)
            or f"The runtime's package for it does not support {', '.join(lacking)}."
        )

    @property
    def wrapper(self) -> str:
        return self.files[0]

    def files_for(self, format_name: str) -> list[str]:
        return [file for file in self.files if format_name in self.only.get(file, self.formats)]


_OF_PYTHON = "Only Python can open it: the file contains weights or Python objects, not a program."
_OF_TORCH = "Only torch can load an exported program, from Python. Export torchscript or onnx."
_OF_APPLE = "Core ML only exists on Apple's systems. Export onnx or tflite."
_OF_NVIDIA = "TensorRT only runs on NVIDIA GPUs, which such a device does not have. Export onnx."
LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        ("model_wrapper.py", "example.py", "requirements.txt"),
        frozenset(
            {"onnx", "openvino", "torchscript", "pt2", "pytorch", "tflite", "coreml", "tensorrt", "pickle"}
        ),
        copied={f"model_processing/{name}": _PROCESSING / name for name in _MODULES},
    ),
    "cpp": Language(
        (
            "model_wrapper.cpp",
            "model_wrapper.h",
            "processing.cpp",
            "replay.cpp",
            "example.cpp",
            "CMakeLists.txt",
        ),
        frozenset({"onnx", "openvino", "torchscript", "tflite", "tensorrt"}),
        why_not={
            "coreml": "Core ML is an Objective-C framework; use the Swift wrapper.",
            "pt2": _OF_TORCH,
            "pytorch": _OF_PYTHON,
            "pickle": _OF_PYTHON,
        },
    ),
    "swift": Language(
        ("ModelWrapper.swift", "Processing.swift", "Package.swift", "ModelWrapper.podspec"),
        frozenset({"coreml", "onnx", "tflite"}),
        only={"Package.swift": frozenset({"coreml", "onnx"}), "ModelWrapper.podspec": frozenset({"tflite"})},
        why_not={
            "openvino": "OpenVINO is not released for Swift or iOS. Export coreml or onnx.",
            "torchscript": "torch's library for iOS has no Swift interface. Export coreml or onnx.",
            "tensorrt": _OF_NVIDIA,
            "pt2": _OF_TORCH,
            "pytorch": _OF_PYTHON,
            "pickle": _OF_PYTHON,
        },
        # ORTTensorElementDataType does not have these.
        lacks={"onnx": frozenset({"bool", "int16", "uint16", "float16", "float64"})},
    ),
    "kotlin": Language(
        ("ModelWrapper.kt", "Processing.kt", "build.gradle"),
        frozenset({"onnx", "tflite", "torchscript"}),
        why_not={
            "coreml": _OF_APPLE,
            "openvino": "OpenVINO's interface for Java is not released for Android. Export onnx or tflite.",
            "tensorrt": _OF_NVIDIA,
            "pt2": _OF_TORCH,
            "pytorch": _OF_PYTHON,
            "pickle": _OF_PYTHON,
        },
    ),
}


def paths(format_name: str, dtypes: Collection[str] = ()) -> dict[str, str]:
    """Return language → the path of its wrapper in a package of the format with inputs of ``dtypes``."""
    return {
        name: f"runtimes/{name}/{language.wrapper}"
        for name, language in LANGUAGES.items()
        if language.runs(format_name, dtypes)
    }


def why_not(format_name: str, dtypes: Collection[str] = ()) -> dict[str, str]:
    """Return language → why a package of the format with inputs of ``dtypes`` has no wrapper for it."""
    return {
        name: language.refusal(format_name, dtypes)
        for name, language in LANGUAGES.items()
        if not language.runs(format_name, dtypes)
    }


def write(
    folder: Path,
    metadata: Mapping[str, Any],
    versions: Mapping[str, str],
    fidelity: Mapping[str, Any] | None = None,
) -> None:
    """Write ``README.md``, ``labels.txt`` and ``runtimes/LANGUAGE`` of every language that runs the format.

    Templates get ``metadata`` (the content of metadata.json), ``versions`` (tool → version), ``fidelity`` (of
    fidelity.json, or of the stand-in if that was compared; None: not known), ``format``,
    ``ignores_processor``, ``languages`` (those written), ``why_not`` (for the others), ``tolerances`` (of
    verify), ``bounds`` (of dynamic axes), ``specification`` (of declared processing), and the filters
    ``literal`` (Python's repr) and those of literals.

    Raises:
        jinja2.TemplateError: an error in the templates.
    """
    from ..proof.verify import TOLERANCES

    format_name = metadata["model_info"]["export_format"]
    dtypes = {spec["dtype"] for spec in metadata["input_specs"]}
    languages = list(paths(format_name, dtypes))
    values = {
        "metadata": {"table": None, "vectorizer": None, "validation": None, **metadata},
        "versions": versions,
        "format": format_name,
        "languages": languages,
    }
    values |= {"why_not": why_not(format_name, dtypes), "tolerances": TOLERANCES}
    values["ignores_processor"] = (
        not metadata["preprocessing"] and (folder / "preprocessor_config.json").is_file()
    )
    values["specification"] = declared.__doc__
    values["fidelity"] = {**fidelity, **fidelity.get("stand_in", {})} if fidelity else None
    values["bounds"] = [
        {"input": name, "axis": axis, "range": dimension, "message": _wrong_size(name, label, dimension)}
        for name, axes in bounds_of(metadata).items()
        for axis, (label, dimension) in axes.items()
    ]
    for name in languages:
        for file in LANGUAGES[name].files_for(format_name):
            _render(f"{name}/{file}.jinja", values, folder / "runtimes" / name / file)
        for file, source in LANGUAGES[name].copied.items():
            target = folder / "runtimes" / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    sizes = {
        file: (folder / file).stat().st_size
        for file in metadata["artefact"]["files"]
        if (folder / file).is_file()
    }
    values["summary"] = summary.markdown(metadata, fidelity, sizes, languages)
    _render("README.md.jinja", values, folder / "README.md")
    labels = [entry["name"] for entry in metadata["classes"] or ()]
    if labels and not any(len(label.splitlines()) > 1 for label in labels):
        (folder / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")


def _wrong_size(name: str, label: str, dimension: Dimension) -> str:
    return (
        f"The axis {label} of the input {name} has a size that the model does not accept: "
        f"{text_of(dimension)}."
    )


def _render(template: str, values: Mapping[str, Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render(template, values), encoding="utf-8")
