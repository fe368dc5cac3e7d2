"""Container packages: the zip of an export with what builds an image that serves it on port 8000.

    server                                          triton
    ├── Dockerfile                                  ├── Dockerfile
    ├── build.sh                                    ├── build.sh
    ├── input.json          the golden inputs       ├── input.json
    ├── model.onnx …, metadata.json, golden.npz …   ├── model.onnx …, metadata.json, golden.npz …
    ├── runtimes/python/    runs the model          ├── config.pbtxt
    ├── server.py           answers over HTTP       ├── README.md
    ├── requirements-server.txt                     └── manifest.json
    ├── README.md
    └── manifest.json

Both images answer the Open Inference Protocol: ``POST /v2/models/model/infer``. ``server`` needs an image of
Python alone; ``triton`` is built on NVIDIA's image of the Triton Inference Server.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, Literal

from ..package import GOLDEN, README
from ..wrappers.rendering import render
from . import archive, summary, triton
from .errors import DeliveryError

Form = Literal["server", "triton"]
FORMS: tuple[Form, ...] = ("server", "triton")
DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
_SLICE = 10_000
_SERVER = Path(__file__).parent / "server" / "server.py"
# A registry's address, if there is one, and a <name> of
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_NAME = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


def write(output: Path, package: Path, *, form: Form, image_name: str, image_tag: str) -> None:
    """Write the zip of a container package.

    Args:
        output: the zip to write. On an error, nothing is left there.
        package: the zip of an export package.
        form: ``server`` is this project's own server, ``triton`` the Triton Inference Server.
        image_name: the repository of the image, optionally with a registry: ``registry:5000/team/model``.
        image_tag: the tag of the image.

    Raises:
        DeliveryError: the package is damaged or failed its comparison, no server of this form runs its
            format, or the image's name or tag is invalid.
    """
    if form not in FORMS:
        raise DeliveryError(f"{form!r} is not a form of a container. Choose one of {', '.join(FORMS)}.")
    check_image(image_name, image_tag)
    with archive.opened(package) as opened:
        config = triton.configuration(opened) if form == "triton" else None
        if form == "server":
            _check_server(opened)
        with archive.written(output) as writer:
            for name in opened.outside_runtimes():
                writer.copy(opened, name)
            if form == "server":
                for name in opened.runtime("python"):
                    writer.copy(opened, name)
                writer.text("server.py", _SERVER.read_text(encoding="utf-8"))
            values = {
                "form": form,
                "image": f"{image_name}:{image_tag}",
                "files": opened.artefact,
                "format": opened.format,
                "executed": opened.executed,
                "torch": opened.format in ("torchscript", "pt2", "pytorch"),
                "summary": summary.of_opened(opened, ("python",) if form == "server" else ()),
            }
            if config is not None:
                writer.text("config.pbtxt", config)
                values["copies"] = triton.copies(opened)
            for name in ("Dockerfile", "requirements-server.txt") if form == "server" else ("Dockerfile",):
                writer.text(name, render(f"container/{form}/{name}.jinja", values))
            writer.text("build.sh", render("container/build.sh.jinja", values), program=True)
            with writer.stream("input.json") as file:
                _write_inputs(opened, file, form)
            writer.text(README, render("container/README.md.jinja", values))


def check_image(name: str, tag: str) -> None:
    """Raise DeliveryError if they are not the name and the tag of an image."""
    if len(name) > 255 or not _NAME.fullmatch(name):
        raise DeliveryError(
            f"{name[:80]!r} is not the name of an image. Use lower-case letters, digits and . _ - / "
            "with at most 255 characters, for example team/model."
        )
    if not _TAG.fullmatch(tag):
        raise DeliveryError(
            f"{tag[:80]!r} is not the tag of an image. Use at most 128 letters, digits and . _ -"
        )


def _check_server(package: archive.Package) -> None:
    if package.format in ("coreml", "tensorrt"):
        where = {"coreml": "on Apple's systems", "tensorrt": "with an NVIDIA GPU, where Triton serves it"}
        raise DeliveryError(
            f"A container with the server cannot run {package.format}, which only runs "
            f"{where[package.format]}. "
            + ("Export onnx." if package.format == "coreml" else "Choose the form triton, or export onnx.")
        )
    if "python" not in package.wrappers:
        raise DeliveryError(f"The package has no Python wrapper for {package.format}. Export onnx.")


def _write_inputs(package: archive.Package, file: Any, form: Form) -> None:
    """Write the golden inputs as a JSON request of the Open Inference Protocol. NaN and infinity are null."""
    import numpy as np

    with package.open(GOLDEN) as golden, np.load(golden, allow_pickle=False) as arrays:
        for number, spec in enumerate(package.metadata["input_specs"]):
            array = arrays[f"input:{spec['name']}"]
            head = {
                "name": spec["name"] if form == "server" else triton.name_of(package, spec, "INPUT", number),
                "shape": list(array.shape),
                "datatype": DATATYPES[spec["dtype"]],
            }
            begin = '{"inputs": [' if number == 0 else ", "
            file.write(f'{begin}{json.dumps(head)[:-1]}, "data": ['.encode())
            flat = array.ravel()
            for start in range(0, flat.size, _SLICE):  # a list of all elements takes many times their bytes
                values = flat[start : start + _SLICE].tolist()
                if array.dtype.kind == "f":  # with no more digits than the dtype has
                    values = [float(text) for text in flat[start : start + _SLICE].astype(str)]
                    values = [value if math.isfinite(value) else None for value in values]
                file.write(f"{', ' if start else ''}{json.dumps(values)[1:-1]}".encode())
            file.write(b"]}")
        file.write(b"]}\n")
