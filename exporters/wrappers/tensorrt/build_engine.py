"""Build the TensorRT engine of this package on the machine that will run it, and check it there.

An engine belongs to one kind of GPU and one version of TensorRT, so it is made where it is used, out of
``model.onnx`` and ``profile.json`` beside this file:

    pip install tensorrt cuda-python numpy    # Python 3.10 or newer
    python build_engine.py            # writes engine/model.engine and engine/engine.json
    python build_engine.py --check    # only looks whether the files here are whole; needs numpy alone

The engine is compared with the source model's answers in ``golden.npz``. Exit code 0: built, and it agrees;
1: it does not, or the files here are not whole; 2: TensorRT or a GPU is missing.

After TensorRT's Python API, versions 10 and 11: every network is strongly typed, so precision is what the
ONNX says. https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

import argparse
import hashlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

ONNX = "model.onnx"
PROFILE = "profile.json"
ENGINE = "model.engine"
RECORD = "engine.json"
_GIB = 1 << 30


class NotHere(Exception):
    """TensorRT, CUDA or a GPU is missing; the message says which."""


class BuildFailed(Exception):
    """TensorRT does not take this model; the message says why."""


def environment() -> dict[str, str]:
    """The GPU, its compute capability (SM) and the versions, of which an engine cannot be separated.

    Raises:
        NotHere: there is no such machine under this program.
    """
    trt, cudart = _tensorrt(), _cudart()
    try:
        major, minor, gpu = (
            _call(cudart.cudaDeviceGetAttribute(cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor, 0)),
            _call(cudart.cudaDeviceGetAttribute(cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor, 0)),
            _call(cudart.cudaGetDeviceProperties(0)).name,
        )
        return {
            "tensorrt": str(trt.__version__),
            "cuda_runtime": str(_call(cudart.cudaRuntimeGetVersion())),
            "cuda_driver": str(_call(cudart.cudaDriverGetVersion())),
            "compute_capability": f"{major}.{minor}",
            "gpu": gpu.decode() if isinstance(gpu, bytes) else str(gpu),
        }
    except RuntimeError as exc:
        raise NotHere(f"CUDA finds no usable NVIDIA GPU here: {exc}") from exc


def build(onnx: Path, profile: dict[str, Any], engine: Path) -> dict[str, Any]:
    """Write the engine, and beside it ``engine.json``, the record of where it runs, which is returned.

    Raises:
        NotHere: TensorRT or a GPU is missing.
        BuildFailed: TensorRT does not take this model.
    """
    record: dict[str, Any] = environment()
    trt = _tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # TensorRT 11 always does, and ignores the flag.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise BuildFailed(f"TensorRT cannot read the ONNX: {(errors or ['no reason given'])[0][:300]}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, profile["workspace_size_gb"] * _GIB)
    # On by default: ten bits of mantissa where the model has 23.
    config.clear_flag(trt.BuilderFlag.TF32)
    if profile["inputs"]:
        shapes = builder.create_optimization_profile()
        for name, bounds in profile["inputs"].items():
            shapes.set_shape(name, tuple(bounds["min"]), tuple(bounds["opt"]), tuple(bounds["max"]))
        if config.add_optimization_profile(shapes) < 0:
            raise BuildFailed(f"TensorRT rejects the optimization profile {profile['inputs']}.")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildFailed("TensorRT built no engine; its output above has the cause.")
    data = bytes(plan)
    engine.parent.mkdir(parents=True, exist_ok=True)
    engine.write_bytes(data)
    record["engine_sha256"] = hashlib.sha256(data).hexdigest()
    record["onnx_sha256"] = digest(onnx)
    (engine.parent / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


class Engine:
    """An engine on the first GPU. Calls take turns: it has one execution context."""

    def __init__(self, path: Path) -> None:
        """Raises NotHere: TensorRT or the GPU is missing, or is another than the engine was built for."""
        record, here = json.loads((path.parent / RECORD).read_bytes()), environment()
        for what in ("compute_capability", "tensorrt"):
            if record[what] != here[what]:
                raise NotHere(
                    f"The engine was built for {what} {record[what]}, but this machine has "
                    f"{here[what]}. Build it again with build_engine.py."
                )
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != record["engine_sha256"]:
            raise BuildFailed(
                f"{path.name} is not the engine that {RECORD} describes. Build it again with build_engine.py."
            )
        trt = _tensorrt()
        self._cudart = _cudart()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise BuildFailed(f"TensorRT cannot read {path.name}.")
        self._context = self._engine.create_execution_context()
        self._stream = _call(self._cudart.cudaStreamCreate())
        self._memory: dict[str, tuple[int, int]] = {}  # tensor → address, size in bytes
        self._lock = threading.Lock()
        self.inputs: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}  # name → dtype, shape; -1 is open
        self.outputs: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            shape = tuple(self._engine.get_tensor_shape(name))
            taken = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self.inputs if taken else self.outputs)[name] = (dtype, shape)

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Arrays of the engine's dtypes, of shapes within its profile; ValueError for another shape."""
        to_device = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        to_host = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        with self._lock:
            for name, (dtype, _) in self.inputs.items():
                array = np.ascontiguousarray(inputs[name], dtype)
                if not self._context.set_input_shape(name, array.shape):
                    given = list(array.shape)
                    raise ValueError(f"The input {name!r} of shape {given} is outside the profile.")
                address = self._address(name, array.nbytes)
                _call(self._cudart.cudaMemcpy(address, array.ctypes.data, array.nbytes, to_device))
            answers = {}
            for name, (dtype, _) in self.outputs.items():
                shape = tuple(self._context.get_tensor_shape(name))
                if any(size < 0 for size in shape):
                    raise RuntimeError(f"The shape of {name!r} depends on the data, which is not supported.")
                answers[name] = np.empty(shape, dtype)
                self._address(name, answers[name].nbytes)
            if not self._context.execute_async_v3(stream_handle=int(self._stream)):
                raise RuntimeError("TensorRT could not run the engine; its output above has the cause.")
            _call(self._cudart.cudaStreamSynchronize(self._stream))
            for name, array in answers.items():
                address, _ = self._memory[name]
                _call(self._cudart.cudaMemcpy(array.ctypes.data, address, array.nbytes, to_host))
            return answers

    def _address(self, name: str, size_bytes: int) -> int:
        """Where the tensor is on the GPU; the memory grows and is kept."""
        address, size = self._memory.get(name, (0, 0))
        if not address or size < size_bytes:
            if address:
                _call(self._cudart.cudaFree(address))
            size = max(size_bytes, 1)
            address = int(_call(self._cudart.cudaMalloc(size)))
            self._memory[name] = (address, size)
        self._context.set_tensor_address(name, address)
        return address


def check(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The profile, and the golden inputs and outputs of the package in ``folder``.

    Raises:
        BuildFailed: a file is missing or changed, or the golden inputs are outside the profile.
    """
    try:
        profile = json.loads((folder / PROFILE).read_bytes())
        if digest(folder / ONNX) != profile["onnx_sha256"]:
            raise BuildFailed(f"{ONNX} does not match {PROFILE}.")
        with np.load(folder / "golden.npz", allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError) as exc:
        raise BuildFailed(f"The package is incomplete: {exc}") from exc
    given = {name[6:]: array for name, array in arrays.items() if name.startswith("input:")}
    expected = {name[7:]: array for name, array in arrays.items() if name.startswith("output:")}
    for name, bounds in profile["inputs"].items():
        shape = given[name].shape if name in given else ()
        inside = len(shape) == len(bounds["min"]) and all(
            low <= size <= high for low, size, high in zip(bounds["min"], shape, bounds["max"], strict=True)
        )
        if not inside:
            raise BuildFailed(f"The golden input {name!r} of shape {list(shape)} is outside the profile.")
    return profile, given, expected


def differences(
    expected: dict[str, Any], actual: dict[str, Any], rtol: float, atol: float
) -> dict[str, float | None]:
    """The outputs that disagree, and by how much at most; None where the shapes or NaNs differ.

    An element agrees within ``rtol * |expected| + atol * max|expected|``.
    """
    found: dict[str, float | None] = {}
    for name, want in expected.items():
        have = actual.get(name)
        if have is None or have.shape != want.shape or have.dtype != want.dtype:
            found[name] = None
            continue
        if want.dtype.kind != "f":
            if not np.array_equal(want, have):
                found[name] = None
            continue
        finite = np.isfinite(want)
        want64, have64 = want[finite].astype(np.float64), have[finite].astype(np.float64)
        if not np.array_equal(want[~finite], have[~finite], equal_nan=True) or not np.isfinite(have64).all():
            found[name] = None
            continue
        distance = np.abs(have64 - want64)
        scale = float(np.abs(want64).max(initial=0.0))
        if (distance > rtol * np.abs(want64) + (atol * scale or 1e-6)).any():
            found[name] = float(distance.max())
    return found


def main(argv: list[str] | None = None) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(description="Build this package's TensorRT engine on this machine.")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the engine; default: engine")
    parser.add_argument("--check", action="store_true", help="only check whether the files here are complete")
    arguments = parser.parse_args(argv)
    folder = Path(__file__).resolve().parent
    try:
        profile, given, expected = check(folder)
        if arguments.check:
            print("The files are complete, and the golden inputs fit the profile.")
            return 0
        engine = (arguments.out or folder / "engine") / ENGINE
        record = build(folder / ONNX, profile, engine)
        tolerance = profile["tolerance"]
        wrong = differences(expected, Engine(engine).predict(given), tolerance["rtol"], tolerance["atol"])
        record["verified"] = not wrong
        (engine.parent / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except NotHere as exc:
        print(exc, file=sys.stderr)
        return 2
    except BuildFailed as exc:
        print(exc, file=sys.stderr)
        return 1
    for name, distance in wrong.items():
        print(f"{name} differs{f' by {distance:.2e}' if distance is not None else ''}", file=sys.stderr)
    built = "{gpu}, SM {compute_capability}, TensorRT {tensorrt}, CUDA {cuda_runtime}".format(**record)
    print(f"{engine}: {built}; {'does not agree' if wrong else 'agrees'} with the golden outputs.")
    return 1 if wrong else 0


def digest(path: Path) -> str:
    digest = hashlib.sha256()  # not filedigest: Python 3.10 is what a Jetson has
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _tensorrt() -> Any:
    try:
        import tensorrt
    except ImportError as exc:
        raise NotHere("TensorRT is not installed here: pip install tensorrt.") from exc
    return tensorrt


def _cudart() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as exc:
        raise NotHere("CUDA's Python bindings are not installed here: pip install cuda-python.") from exc
    return runtime


def _call(answer: Any) -> Any:
    """Return the value after the error code in the result of a CUDA function, or None.

    Raises:
        RuntimeError: the error code is not 0.
    """
    code, *values = answer
    if int(code):
        raise RuntimeError(f"CUDA error {code!s}")
    return values[0] if values else None


if __name__ == "__main__":
    sys.exit(main())
