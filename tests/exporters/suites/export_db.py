"""torch.export's own examples (torch._export.db) as sources: each is exported, and asked other inputs.

    python -m tests.exporters.suites.export_db RESULTS [FORMAT ...]

appends a line of JSON for each example and format to the file RESULTS, and leaves out those that are in it.
Nothing of the verifier is used to judge an answer: the artefact runs in the plain runtime, and what is
expected is what the example itself answers in eager mode.
"""

import copy
import json
import sys
import tempfile
import warnings
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

FORMATS = ("onnx", "openvino", "torchscript", "tflite")
_ARTEFACTS = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "torchscript": "model.torchscript.pt",
    "tflite": "model.tflite",
}
Flat = list[torch.Tensor]


def programs(folder: Path) -> Iterator[tuple[str, Any, Any, Path | str]]:
    """(name, example, its inputs, the file that torch.export.save wrote, or why there is none)."""
    from torch._export.db.examples import all_examples

    for name, example in sorted(all_examples().items()):
        given = (tuple(example.example_args), dict(example.example_kwargs))
        path = folder / f"{name}.pt2"
        try:
            program = torch.export.export(
                example.model.eval(), *given, dynamic_shapes=example.dynamic_shapes, strict=False
            )
            torch.export.save(program, path)
        except Exception as exc:
            yield name, example, given, f"torch.export: {str(exc).strip().splitlines()[0][:160]}"
            continue
        yield name, example, given, path


def other_inputs(example: Any, given: Any) -> Iterator[Any]:
    """The example's own other inputs, and three more of the same shapes: other values, zeros, large ones."""
    if example.extra_args:
        yield tuple(example.extra_args), {}
    leaves, spec = tree_flatten(given)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed + 11)
        yield tree_unflatten([_other(leaf, generator, seed) for leaf in leaves], spec)


def _other(leaf: Any, generator: torch.Generator, seed: int) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if leaf.dtype == torch.bool:
        return torch.randint(0, 2, leaf.shape, generator=generator).bool()
    if leaf.dtype.is_floating_point:
        scale = (1.0, 0.0, -100.0)[seed]
        return (torch.randn(leaf.shape, generator=generator) * scale).to(leaf.dtype)
    low, high = ((0, 50), (0, 3), (3, 6))[seed]
    return torch.randint(low, high, leaf.shape, generator=generator).to(leaf.dtype)


def answers(format_name: str, path: Path, inputs: Flat) -> list[Any]:
    """Of the artefact in its plain runtime, its inputs by position."""
    arrays = [tensor.numpy() for tensor in inputs]
    if format_name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        return list(session.run(None, dict(zip(names, arrays, strict=True))))
    if format_name == "openvino":
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled(arrays)
        return [found[index] for index in range(len(compiled.outputs))]
    if format_name == "torchscript":
        with torch.no_grad():
            return [leaf.numpy() for leaf in tree_leaves(torch.jit.load(str(path))(*inputs))]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    document = json.loads((path.parent / "metadata.json").read_bytes())
    run = interpreter.get_signature_runner()
    names = [spec["name"] for spec in document["input_specs"]]
    answer = run(**dict(zip(names, arrays, strict=True)))
    return [answer[name] for name in document["output_spec"]]


def judged(format_name: str, path: Path, example: Any, given: Any) -> str:
    """right, wrong, or fails; inputs that the example itself rejects are left out."""
    asked = 0
    for args, kwargs in other_inputs(example, given):
        try:
            with torch.no_grad():
                answer = example.model(*copy.deepcopy(args), **copy.deepcopy(kwargs))  # it may change them
                wanted = [leaf for leaf in tree_leaves(answer) if leaf is not None]
        except Exception:
            continue
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        shapes = [spec["shape"] for spec in _document(path)["input_specs"]]
        if any(
            isinstance(want, int) and want != have
            for shape, tensor in zip(shapes, inputs, strict=True)
            for want, have in zip(shape, tensor.shape, strict=True)
        ):
            continue  # of TFLite, whose sizes are fixed
        asked += 1
        try:
            found = answers(format_name, path, inputs)
        except Exception as exc:
            return f"fails: {str(exc).strip()[:160]}"
        if not all(_same(one, other) for one, other in zip(wanted, found, strict=True)):
            return "wrong"
    return f"right on {asked}"


def _document(path: Path) -> Any:
    return json.loads((path.parent / "metadata.json").read_bytes())


def _same(wanted: Any, found: Any) -> bool:
    right = wanted.numpy() if isinstance(wanted, torch.Tensor) else np.asarray(wanted)
    if right.shape != np.shape(found):
        return False
    scale = float(np.abs(right[np.isfinite(right)]).max(initial=0.0)) if right.dtype.kind == "f" else 0.0
    return bool(np.allclose(found, right, rtol=1e-3, atol=1e-4 * scale + 1e-6, equal_nan=True))


def measure(
    folder: Path, formats: tuple[str, ...] = FORMATS, known: Container[tuple[str, str]] = ()
) -> Iterator[dict[str, Any]]:
    """What came of each example and format, but for those in ``known``."""
    from exporters.convert import run
    from exporters.errors import ExportError
    from exporters.request import ExportRequest

    warnings.simplefilter("ignore")
    for name, example, given, path in programs(folder):
        for format_name in formats:
            if (name, format_name) in known:
                continue
            found: dict[str, Any] = {"case": name, "format": format_name, "message": ""}
            if isinstance(path, str):
                yield {**found, "verdict": "no_program", "message": path}
                continue
            package = folder / f"{name}-{format_name}"
            try:
                found["verdict"] = run(ExportRequest(path, package, format_name)).verdict
                found["artefact"] = judged(format_name, package / _ARTEFACTS[format_name], example, given)
            except ExportError as exc:
                found |= {"verdict": exc.code, "message": exc.message}
            except Exception as exc:
                found |= {"verdict": "traceback", "message": f"{type(exc).__name__}: {exc}"[:300]}
            yield found


def main(results: Path, formats: tuple[str, ...]) -> None:
    lines = results.read_text().splitlines() if results.exists() else []
    known = {(found["case"], found["format"]) for found in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as folder, results.open("a") as file:
        for found in measure(Path(folder), formats, known):
            print(json.dumps(found), file=file, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]) or FORMATS)
