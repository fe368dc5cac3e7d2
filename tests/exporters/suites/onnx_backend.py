"""ONNX's backend tests as sources: each case is exported, and its artefact answers the case's own data.

    python -m tests.exporters.suites.onnx_backend FORMAT RESULTS [STEP]

appends a line of JSON for each case, or for every STEP-th, to the file RESULTS, and leaves out the cases that
are in it. Nothing of the verifier is used to judge an answer: the artefact runs in the plain runtime, and the
expected outputs and the tolerance are the case's.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Values = list[Any]
_DATA_KINDS = ("simple", "pytorch-converted", "pytorch-operator")


class SuiteCase(NamedTuple):
    name: str
    model: Any  # an onnx.ModelProto
    data: list[tuple[Values, Values]]  # the inputs and the expected outputs of each data set
    rtol: float
    atol: float


def cases() -> Iterator[SuiteCase]:
    """Those whose inputs and outputs are tensors: others are no source of any format here."""
    for case in (*_of_nodes(), *_of_data()):
        values = [value for inputs, outputs in case.data for value in (*inputs, *outputs)]
        if values and all(isinstance(value, (np.ndarray, np.generic)) for value in values):
            yield case


def _of_nodes() -> Iterator[SuiteCase]:
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        sets = [(list(map(_plain, given)), list(map(_plain, wanted))) for given, wanted in case.data_sets]
        yield SuiteCase(f"node/{case.name}", case.model, sets, case.rtol, case.atol)


def _of_data() -> Iterator[SuiteCase]:
    import onnx
    from onnx.backend.test import loader

    for kind in _DATA_KINDS:
        for case in loader.load_model_tests(kind=kind):
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            sets = [
                (_read(one, "input", model.graph.input), _read(one, "output", model.graph.output))
                for one in sorted(folder.glob("test_data_set_*"))
            ]
            yield SuiteCase(f"{kind}/{case.name}", model, sets, case.rtol, case.atol)


def _read(folder: Path, prefix: str, values: Any) -> Values:
    import onnx

    read = []
    for number, value in enumerate(values):
        path = folder / f"{prefix}_{number}.pb"
        if path.is_file():
            read.append(path.read_bytes())
            tensor = onnx.TensorProto.FromString(read[-1]) if value.type.HasField("tensor_type") else None
            read[-1] = _plain(tensor)
    return read


def _plain(value: Any) -> Any:
    import onnx

    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return value


def feeds(case: SuiteCase, number: int) -> dict[str, npt.NDArray[Any]]:
    given = {tensor.name for tensor in case.model.graph.initializer}
    values = case.model.graph.input
    inputs = case.data[number][0]
    if len(values) != len(inputs):
        values = [value for value in values if value.name not in given]
    return {value.name: np.asarray(array) for value, array in zip(values, inputs, strict=False)}


def right(case: SuiteCase, number: int, actual: Values) -> bool:
    """By the comparison of onnx.backend.test itself, with the case's tolerances; integers are equal."""
    from onnx.backend.test.runner import Runner

    wanted = case.data[number][1]
    found = [np.asarray(array) for array in actual]
    try:
        Runner.assert_similar_outputs(wanted, found, case.rtol, case.atol)
    except AssertionError:
        return False
    return all(
        one.dtype.kind in "fcV" or np.array_equal(one, other)
        for one, other in zip(wanted, found, strict=True)
    )


def run_onnx(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> Values:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    answer: Values = session.run(None, {name: array for name, array in inputs.items() if name in names})
    return answer


def run_openvino(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> Values:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = {port.any_name for port in compiled.inputs}
    found = compiled({name: array for name, array in inputs.items() if name in names})
    return [found[port] for port in compiled.outputs]


_CRASH = "ended the process"
CAUSES = {
    _CRASH: "the target's runtime crashes",
    "depends on the values of an input": "an output without a fixed rank",
    "draws random": "the model draws random numbers",
    "is text; supported are": "an input is text",
    "is not a tensor": "an input or output is a sequence, an optional or a map",
    "but only tensors": "an input or output is a sequence, an optional or a map",
    "takes no input": "the model takes no input",
    "all its outputs are NaN": "the answer has no number",
    "nothing was compared": "the answer is empty",
    "each time": "the model draws random numbers",
    "fails on inputs of the declared shapes": "the model rejects the inputs",
    "has no operator": "the target has no such operator",
    "cannot read this model": "the target does not read the model",
    "does not behave like its source": "the artefact differs, and is refused",
    "fails on inputs that its source accepts": "the artefact fails, and is refused",
}


def cause(message: str) -> str:
    """The class of causes that a refusal belongs to."""
    return next((name for part, name in CAUSES.items() if part in message), f"other: {message[:80]}")


RUN = {"onnx": run_onnx, "openvino": run_openvino}


def measure(case: SuiteCase, format_name: str, folder: Path) -> dict[str, Any]:
    """What came of one case: whether onnxruntime itself is right, the verdict, whether the artefact is."""
    import onnx

    source = folder / "source.onnx"
    onnx.save(case.model, source)
    found: dict[str, Any] = {"case": case.name, "runtime": _judged(case, run_onnx, source)}
    for samples in (False, True):
        package = folder / f"package-{samples}"
        found |= _exported(case, format_name, source, package, samples)
        if found["verdict"] == "verified":
            artefact = package / ("model.onnx" if format_name == "onnx" else "model.xml")
            found["artefact"] = _judged(case, RUN[format_name], artefact)
        if found["verdict"] in ("verified", "unsupported_option", "unsafe_checkpoint"):
            break
    return found


def _judged(case: SuiteCase, run: Any, path: Path) -> str:
    try:
        answers = [run(path, feeds(case, number)) for number in range(len(case.data))]
    except Exception as exc:
        return f"fails: {str(exc).strip()[:200]}"
    return "right" if all(right(case, number, one) for number, one in enumerate(answers)) else "wrong"


def _exported(
    case: SuiteCase, format_name: str, source: Path, package: Path, samples: bool
) -> dict[str, Any]:
    from exporters.convert import run
    from exporters.errors import ExportError
    from exporters.request import ExportRequest

    path = None
    if samples:
        path = source.with_name("samples.npz")
        arrays: dict[str, Any] = feeds(case, 0)
        np.savez(path, **arrays)
    try:
        result = run(ExportRequest(source, package, format_name, sample_inputs=path))
    except ExportError as exc:
        return {"verdict": exc.code, "message": exc.message, "samples": samples}
    except Exception as exc:
        return {"verdict": "traceback", "message": f"{type(exc).__name__}: {exc}"[:300], "samples": samples}
    return {"verdict": result.verdict, "message": "", "samples": samples}


def measure_all(format_name: str, results: Path, step: int = 1) -> None:
    """Measure every ``step``-th case that the file does not have yet.

    A case is noted before it runs, so that one that ends the process is not run again.
    """
    known = {found["case"] for found in read_results(results)}
    for number, case in enumerate(cases()):
        if number % step or case.name in known:
            continue
        with tempfile.TemporaryDirectory() as scratch, results.open("a") as file:
            started = {"case": case.name, "runtime": "right", "verdict": "crashed", "message": _CRASH}
            print(json.dumps(started), file=file, flush=True)
            print(json.dumps(measure(case, format_name, Path(scratch))), file=file, flush=True)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The last line of each case."""
    lines = path.read_text().splitlines() if path.exists() else []
    return list({found["case"]: found for found in map(json.loads, lines)}.values())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    measure_all(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
