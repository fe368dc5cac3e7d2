"""A warm export beside the bare converter, and an export that was made before.

``python benchmarks/exporting.py``. Warm: the frameworks are imported and their tables are made, as in the
child that a worker keeps ready. The bare side is what somebody would write by hand, load the program and call
the converter; what the comparison with the source takes, with the source's own answers, is measured alone.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common import api_server, median_ratio, setting, table, worker, write_results
from http_load import Target
from streams import post_json, upload

from exporters import registry, runners, sources
from exporters.convert import run
from exporters.proof import cases, verify
from exporters.request import ExportRequest
from model_service.embedded import servers

PROMISED_RATIO = 1.15
PROMISED_REPEAT_MS = 100.0
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = _network(folder / "model.pt2")
        rows = [_beside_bare(name, bare, path, folder, given.rounds) for name, bare in BARE.items()]
        repeated_ms = _repeated(path, folder, given.rounds)
    write_results("exporting", report(rows, repeated_ms))


def _network(path: Path) -> Path:
    """A network of the size of ResNet-18 with random weights."""
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False).eval()
    dynamic = {"x": {0: torch.export.Dim("batch")}}
    example = (torch.randn(2, 3, 64, 64),)
    torch.export.save(torch.export.export(network, example, dynamic_shapes=dynamic), path)
    return path


def _bare_onnx(path: Path, folder: Path) -> None:
    import torch

    program = torch.export.load(path)
    torch.onnx.export(program, dynamo=True, verbose=False).save(str(folder / "bare.onnx"))


def _bare_openvino(path: Path, folder: Path) -> None:
    import openvino
    import torch

    program = torch.export.load(path)
    openvino.save_model(openvino.convert_model(program), folder / "bare.xml", compress_to_fp16=False)


BARE: Mapping[str, Callable[[Path, Path], None]] = {
    "onnx": _bare_onnx,
    "openvino": _bare_openvino,
}


def _beside_bare(
    name: str, bare: Callable[[Path, Path], None], path: Path, folder: Path, rounds: int
) -> Sequence[object]:
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(-1, rounds):  # the first pays for imports, and does not count
        out = folder / f"{name}-{number}"
        bare_s = _timed(lambda: bare(path, folder))
        export_s = _timed(lambda out=out: run(ExportRequest(path, out, name)))
        verify_s = _timed(lambda out=out: _verification(path, name, out))
        if number >= 0:
            ours.append(export_s)
            theirs.append(bare_s + verify_s)
    return (
        name,
        f"{statistics.median(ours):.2f}",
        f"{statistics.median(theirs):.2f}",
        f"{median_ratio(ours, theirs):.2f}",
        f"≤ {PROMISED_RATIO}",
    )


def _verification(path: Path, name: str, package: Path) -> None:
    source = sources.load(path, registry.specification(name).validate({}))
    verify.compare(cases.plan(source), runners.load(package).predict)


def _repeated(path: Path, folder: Path, rounds: int) -> list[float]:
    """How long the service takes to answer an export that it has made before, in ms."""
    with ExitStack() as stack:
        addresses = stack.enter_context(servers(folder / "servers"))
        settings = {"MONGODB_DB": "benchmark"}
        api = stack.enter_context(api_server(addresses, folder / "api", **settings))
        stack.enter_context(worker(addresses, folder / "worker", **settings))
        model = post_json(f"{api.url}/api/v1/models", MODEL)["model_id"]
        upload("POST", f"{api.url}/api/v1/models/{model}/upload", path)
        body = {"model_id": model, "export_format": "onnx"}
        target = Target(api.url)
        _until_completed(target, post_json(f"{api.url}/api/v1/export/jobs", body))
        return [
            _timed(lambda: _until_completed(target, post_json(f"{api.url}/api/v1/export/jobs", body))) * 1000
            for _ in range(rounds * 4)
        ]


MODEL = {
    "name": "exporting",
    "algorithm": "ResNet",
    "framework": "pytorch",
    "task_type": "image_classification",
    "created_by": "benchmark",
}


def _until_completed(target: Target, job: Mapping[str, Any]) -> None:
    import orjson

    while job["status"] != "completed":
        if job["status"] not in ("pending", "running"):
            raise SystemExit(f"the export is {job['status']}: {job['error_message']}")
        time.sleep(0.02)
        job = orjson.loads(target.ask(target.get(f"/api/v1/export/jobs/{job['id']}")))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(rows: Sequence[Sequence[object]], repeated_ms: Sequence[float]) -> str:
    header = ["format", "export, s", "bare converter and verification, s", "ratio", "promised"]
    return (
        f"# Exports\n\n`python benchmarks/exporting.py`. {setting()} ResNet-18 at 64x64, saved with "
        "torch.export; medians, and the median of the rounds' ratios. An export also writes the package, and "
        "measures the artefact.\n\n"
        f"{table(header, rows)}\n"
        "The same export again is answered from the stored one after "
        f"{statistics.median(repeated_ms):.0f} ms (promised: {PROMISED_REPEAT_MS:.0f} ms), the slowest of "
        f"{len(repeated_ms)} after {max(repeated_ms):.0f} ms.\n"
    )


if __name__ == "__main__":
    main()
