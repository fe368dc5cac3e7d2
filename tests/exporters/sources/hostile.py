"""Files that are not what they seem, of twelve kinds; none of them may be called safe."""

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import onnx
import skops.io
import torch
from safetensors.numpy import save as safetensors
from sklearn.linear_model import LogisticRegression

_COMMANDS = ("os.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "os.popen", "runpy.run_path")


_TOUCH = "touch ran"  # in the working directory


class Calls:
    """Unpickled, it calls a function by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        module, _, name = self.name.rpartition(".")
        given = (
            "open('ran', 'w')"
            if module in ("builtins", "runpy")
            else _TOUCH.split()
            if name == "Popen"
            else _TOUCH
        )
        return getattr(__import__(module), name), (given,)


def files() -> Iterator[tuple[str, str, bytes]]:
    """``kind, name, content`` of each."""
    for make in (_pickles, _torch, _joblib, _archives, _skops, _keras, _programs, _tars, _arrays, _tensors):
        yield from make()
    yield from _onnx()
    yield from _boosters()


def _estimator() -> Any:
    return LogisticRegression().fit([[0.0], [1.0]], [0, 1])


def _pickles() -> Iterator[tuple[str, str, bytes]]:
    honest = pickle.dumps(_estimator())
    for command in _COMMANDS:
        for protocol in (0, 2, 4, 5):
            yield "pickle", f"{command}-{protocol}.pkl", pickle.dumps(Calls(command), protocol)
        yield "pickle", f"{command}-behind.pkl", honest + pickle.dumps(Calls(command))
        yield "pickle", f"{command}-inside.pkl", pickle.dumps({"model": _estimator(), "note": Calls(command)})
    for name in (
        "webbrowser.open",
        "torch.load",
        "numpy.load",
        "asyncio.run",
        "shutil.rmtree",
        "ctypes.CDLL",
    ):
        module, _, function = name.rpartition(".")
        yield "pickle", f"{name}.pkl", f"c{module}\n{function}\n(S'true'\ntR.".encode()
    for size in (1, 10, len(honest) // 2, len(honest) - 1):
        yield "pickle", f"cut-{size}.pkl", honest[:size]


def _torch() -> Iterator[tuple[str, str, bytes]]:
    for command in _COMMANDS:
        for legacy in (False, True):
            file = io.BytesIO()
            given = {"weights": torch.zeros(2), "note": Calls(command)}
            torch.save(given, file, _use_new_zipfile_serialization=not legacy)
            yield "torch", f"{command}-{legacy}.pt", file.getvalue()


def _joblib() -> Iterator[tuple[str, str, bytes]]:
    for command in _COMMANDS:
        for compress in (0, 3, "gzip", "xz"):
            file = io.BytesIO()
            joblib.dump([np.arange(3), Calls(command)], file, compress=compress)
            yield "joblib", f"{command}-{compress}.joblib", file.getvalue()


def _zip(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _archives() -> Iterator[tuple[str, str, bytes]]:
    weights = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, weights)
    honest = weights.getvalue()
    for command in _COMMANDS:
        bad = pickle.dumps(Calls(command))
        yield "archive", f"{command}-before.pt", bad + honest
        yield (
            "archive",
            f"{command}-in-archive.pt",
            _zip({"model/data.pkl": pickle.dumps(1), "x.pt": _zip({"data.pkl": bad})}),
        )
        yield "archive", f"{command}-other-name.zip", _zip({"weights.bin": bad})
    yield "archive", "before.pt", b"\x00" * 100 + honest
    yield "archive", "behind.pt", honest + b"\x00" * 100
    yield "archive", "code.zip", _zip({"model.py": b"import os; os.system('true')"})
    yield "archive", "library.pt", _zip({"model/data.pkl": pickle.dumps(1), "model/lib.so": b"\x7fELF"})
    yield "archive", "script.torchscript", _zip({"m/constants.pkl": pickle.dumps(1), "m/code/m.py": b"save"})


def _skops() -> Iterator[tuple[str, str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(_estimator()))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for command in _COMMANDS:
        module, _, name = command.rpartition(".")
        for loader in ("FunctionNode", "ObjectNode", "TypeNode", "MethodNode"):
            schema = json.loads(parts["schema.json"])
            schema["content"] = {"__module__": module, "__class__": name, "__loader__": loader, "content": {}}
            changed = parts | {"schema.json": json.dumps(schema).encode()}
            yield "skops", f"{command}-{loader}.skops", _zip(changed)
    yield "skops", "more.skops", _zip(parts | {"run.sh": b"#!/bin/sh\ntrue\n"})


def _keras() -> Iterator[tuple[str, str, bytes]]:
    for layer in ("Lambda", "keras>Lambda"):
        config = json.dumps({"layers": [{"class_name": layer, "config": {"function": "4wEAAAA="}}]}).encode()
        yield (
            "keras",
            f"{layer}.keras",
            _zip({"config.json": config, "model.weights.h5": b"\x89HDF\r\n\x1a\n"}),
        )
        yield "keras", f"{layer}.h5", b"\x89HDF\r\n\x1a\n" + bytes(100) + config
    yield "keras", "custom.keras", _zip({"config.json": b'{"class_name": "Mine"}', "model.weights.h5": b""})


def _programs() -> Iterator[tuple[str, str, bytes]]:
    for name, head in (
        ("elf", b"\x7fELF\x02\x01\x01"),
        ("exe", b"MZ\x90\x00"),
        ("macho", b"\xcf\xfa\xed\xfe"),
        ("java", b"\xca\xfe\xba\xbe"),
        ("sh", b"#!/bin/sh\ntrue\n"),
        ("py", b"#!/usr/bin/env python\nimport os\n"),
        ("plain.py", b"import os\nos.system('true')\n"),
        ("bat", b"@echo off\r\n"),
        ("txt", b"nothing but words\n"),
        ("bin", os.urandom(64)),
        ("empty", b""),
    ):
        yield (
            "program",
            f"model.{name}",
            head + (b"\x00" * 64 if name in ("elf", "exe", "macho", "java") else b""),
        )


def _tars() -> Iterator[tuple[str, str, bytes]]:
    for command in _COMMANDS:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, content in (
                ("pickle", pickle.dumps(Calls(command))),
                ("storages", b""),
                ("tensors", b""),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        yield "tar", f"{command}.tar", file.getvalue()


def _arrays() -> Iterator[tuple[str, str, bytes]]:
    for command in _COMMANDS:
        file = io.BytesIO()
        np.save(file, np.array([Calls(command)], object), allow_pickle=True)
        yield "array", f"{command}.npy", file.getvalue()
        yield "array", f"{command}.npz", _zip({"x.npy": file.getvalue()})


def _tensors() -> Iterator[tuple[str, str, bytes]]:
    whole = safetensors({"w": np.zeros(4, np.float32)})
    yield "safetensors", "behind.safetensors", whole + pickle.dumps(Calls("os.system"))
    yield "safetensors", "cut.safetensors", whole[:-3]
    yield "safetensors", "long.safetensors", (1 << 40).to_bytes(8, "little") + whole[8:]
    yield "safetensors", "overlap.safetensors", whole.replace(b"[0,16]", b"[4,16]")


def _onnx() -> Iterator[tuple[str, str, bytes]]:
    def model(**node: Any) -> Any:
        kind = {"op_type": "Relu", "domain": ""} | node
        made = onnx.helper.make_node(kind["op_type"], ["x"], ["y"], domain=kind["domain"])
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph([made], "g", [value("x", 1, [1])], [value("y", 1, [1])])
        domains = [onnx.helper.make_opsetid(name, 1 if name else 18) for name in {"", kind["domain"]}]
        return onnx.helper.make_model(graph, opset_imports=domains)

    yield "onnx", "library.onnx", model(op_type="Run", domain="evil").SerializeToString()
    yield "onnx", "context.onnx", model(op_type="EPContext", domain="com.microsoft").SerializeToString()
    for location in ("/etc/passwd", "../../etc/passwd", "*/_ORT_MEM_ADDR_/*"):
        outside = model()
        tensor = outside.graph.initializer.add(name="w", data_type=1, dims=[1])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        yield "onnx", f"{location.replace('/', '_')}.onnx", outside.SerializeToString()
    yield "onnx", "cut.onnx", model().SerializeToString()[:-5]


def _boosters() -> Iterator[tuple[str, str, bytes]]:
    import lightgbm
    import xgboost

    random = np.random.default_rng(0)
    x = random.normal(size=(100, 3))
    document = json.loads(xgboost.XGBRegressor(n_estimators=1).fit(x, x[:, 0]).get_booster().save_raw("json"))
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    for place, number in (("left_children", 10**8), ("split_indices", 10**8), ("parents", 10**8)):
        kept = list(tree[place])
        tree[place][1] = number
        yield "booster", f"{place}.json", json.dumps(document).encode()
        tree[place] = kept
    text = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, min_child_samples=2).fit(x, x[:, 0])
    whole = text.booster_.model_to_string()
    yield "booster", "half.txt", whole[: len(whole) // 2].encode()
    yield "booster", "feature.txt", whole.replace("split_feature=0", "split_feature=9").encode()
