"""Trains a small network on real scans of handwritten digits and takes it through the whole service.

The data is the UCI optical recognition set that scikit-learn carries: 1,797 scans of 8 by 8 pixels. Every
number in the table is measured here. The exit code is 0 when the endpoint is as accurate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from model_service.client import ClientError, Deployment, ExportJob, ModelServiceClient
from model_service.embedded.errors import EmbeddedError
from model_service.embedded.family import guarded
from model_service.embedded.lock import locked

if TYPE_CHECKING:
    import numpy as np
    import torch

START_DEADLINE_S = 60
STOP_S = 15.0  # `model-service up` stops in order within 10 s
TRAIN_EPOCHS = 14
CALLERS = 4
LATENCY_REQUESTS = 200
THROUGHPUT_REQUESTS = 1000

console = Console()


@dataclass(frozen=True)
class Trained:
    """``scans``, never seen in training, are float32[N, 1, 8, 8] in 0 to 1; ``labels`` int64[N]."""

    network: torch.nn.Module
    scans: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Asked:
    accuracy: float
    latencies_ms: list[float]
    requests_per_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the service running at the end")
    arguments = parser.parse_args()
    with running_service(keep=arguments.keep) as (addresses, data_dir):
        with step("Training on 1,347 scans of handwritten digits") as say:
            trained = train(say)
        with ModelServiceClient(addresses["api"], progress=False) as client:
            job, deployment, timings = register_to_deploy(client, trained, data_dir)
            with step(f"Asking the endpoint about {len(trained.labels)} scans it has never seen"):
                asked = ask(client, deployment, trained)
        show(trained, job, asked, timings)
        show_where_to_look(addresses, deployment, trained, data_dir, keep=arguments.keep)
    if asked.accuracy != trained.accuracy:
        console.print("[red]The endpoint is not as accurate as the network it was made from.[/red]")
        return 1
    return 0


@contextlib.contextmanager
def step(what: str) -> Iterator[Callable[[str], None]]:
    """Shows that ``what`` is under way, then how long it took; what is yielded says how far it is."""
    started = time.perf_counter()
    with console.status(what) as status:
        yield lambda progress: status.update(f"{what}: {progress}")
    console.print(f"[green]✓[/green] {what} [dim]{time.perf_counter() - started:.1f} s[/dim]")


@contextlib.contextmanager
def running_service(*, keep: bool) -> Iterator[tuple[dict[str, Any], Path]]:
    """``model-service up`` on free ports and a data folder of its own; its addresses and the folder.

    Unless it is kept, a guard stops it and removes the folder, also when this program is killed.
    """
    folder = Path(tempfile.mkdtemp(prefix="model-service-quickstart-"))
    data_dir = folder / "data"
    data_dir.mkdir()
    port, inference_port = free_ports(2)
    command = [sys.executable, "-m", "model_service.cli", "up", "--data-dir", str(data_dir)]
    command += ["--port", str(port), "--inference-port", str(inference_port)]
    started = kept(command, data_dir) if keep else guarded_service(command, folder, data_dir)
    with started as has_ended:
        try:
            with step("Starting MongoDB, Redis, the registry, a worker and an inference server"):
                addresses = wait_until_up(has_ended, data_dir)
            yield addresses, data_dir
        except Exception:
            lines = (data_dir / "up.log").read_text(errors="replace").splitlines()[-20:]
            console.print("The last lines of the service's log:", *lines, sep="\n", markup=False)
            raise


@contextlib.contextmanager
def guarded_service(command: list[str], folder: Path, data_dir: Path) -> Iterator[Callable[[], bool]]:
    """Yields whether it has ended."""
    with (
        locked(folder) as lock,
        guarded(folder, lock, remove=[folder], grace_s=STOP_S) as family,
        (data_dir / "up.log").open("wb") as log,
    ):
        member = family.spawn(command, without_databases(family.environment()), log.fileno())
        tempfile.tempdir = str(family.folder)  # of torch, here

        def has_ended() -> bool:
            while select.select([family], [], [], 0)[0]:
                family.receive()
            return member.code is not None

        yield has_ended


@contextlib.contextmanager
def kept(command: list[str], data_dir: Path) -> Iterator[Callable[[], bool]]:
    """The same, for a service that goes on when the block has succeeded."""
    with (data_dir / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=without_databases(os.environ),
            start_new_session=True,
        )
    try:
        yield lambda: process.poll() is not None
    except BaseException:
        process.terminate()
        process.wait()
        shutil.rmtree(data_dir.parent, ignore_errors=True)
        raise


def without_databases(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in ("MONGODB_URL", "REDIS_URL")}


def wait_until_up(has_ended: Callable[[], bool], data_dir: Path) -> dict[str, Any]:
    report = data_dir / "up.json"
    deadline = time.monotonic() + START_DEADLINE_S
    while not report.exists():
        if has_ended() or time.monotonic() > deadline:
            raise RuntimeError("The service did not start.")
        time.sleep(0.05)
    addresses: dict[str, Any] = json.loads(report.read_text())
    return addresses


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def train(say: Callable[[str], None]) -> Trained:
    """A convolutional network, trained for some seconds; a quarter of the scans is kept aside."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import nn

    torch.set_num_threads(1)  # so small a network gains nothing from more, and loses where cores are busy
    torch.manual_seed(0)
    digits = load_digits()
    scans = (digits.images / 16.0).astype("float32")[:, None]
    labels = digits.target.astype("int64")
    x, x_test, y, y_test = train_test_split(scans, labels, test_size=0.25, random_state=0, stratify=labels)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 4 * 4, 10),
    )
    started = time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    for epoch in range(TRAIN_EPOCHS):
        say(f"epoch {epoch + 1} of {TRAIN_EPOCHS}")
        for rows in torch.randperm(len(targets)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        right = network(torch.from_numpy(x_test)).argmax(1).numpy() == y_test
    return Trained(network, x_test, y_test, float(right.mean()), time.perf_counter() - started)


def register_to_deploy(
    client: ModelServiceClient, trained: Trained, data_dir: Path
) -> tuple[ExportJob, Deployment, dict[str, float]]:
    import torch

    timings: dict[str, float] = {}
    checkpoint = data_dir / "digits.pt2"
    batch = torch.export.Dim("batch", min=1, max=1024)
    # Traced with a batch of 2: with 1, torch.export would take the batch for a constant.
    program = torch.export.export(trained.network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, checkpoint)
    with step("Registering the model and uploading it into GridFS"), timed(timings, "upload"):
        model_id = client.register_model(
            {
                "name": "digits",
                "algorithm": "convolutional-network",
                "framework": "pytorch",
                "task_type": "image_classification",
                "metrics": {"test_accuracy": trained.accuracy},
                "dataset_info": {"name": "UCI optical recognition of handwritten digits", "samples": 1797},
                "tags": ["quickstart"],
            }
        )
        client.upload_model(model_id, checkpoint)
    with step("Exporting to ONNX and proving it against the network"), timed(timings, "export"):
        job = client.create_export(
            model_id,
            "onnx",
            export_config={
                "classes": [str(digit) for digit in range(10)],
                "postprocessing": {"softmax": True, "top_k": 1},
            },
        )
        job = client.wait_for_export(job)
    with step("Deploying the proven package"), timed(timings, "deploy"):
        deployment = client.wait_for_deployment(client.create_deployment(job.id, "digits"))
    return job, deployment, timings


@contextlib.contextmanager
def timed(timings: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - started


def ask(client: ModelServiceClient, deployment: Deployment, trained: Trained) -> Asked:
    """Accuracy over the test split, from several threads; then latency alone, and throughput."""

    def predict(index: int) -> int:
        row = index % len(trained.labels)
        prediction = client.predict(deployment, trained.scans[row : row + 1], predictions=True)
        assert prediction.predictions is not None
        return int(prediction.predictions[0][0]["class"])

    with ThreadPoolExecutor(CALLERS) as callers:
        answers = list(callers.map(predict, range(len(trained.labels))))
        right = sum(answer == label for answer, label in zip(answers, trained.labels, strict=True))
        latencies = [milliseconds(lambda: predict(index)) for index in range(LATENCY_REQUESTS)]  # noqa: B023
        started = time.perf_counter()
        list(callers.map(predict, range(THROUGHPUT_REQUESTS)))
        rate = THROUGHPUT_REQUESTS / (time.perf_counter() - started)
    return Asked(right / len(trained.labels), sorted(latencies), rate)


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def show(trained: Trained, job: ExportJob, asked: Asked, timings: dict[str, float]) -> None:
    assert job.fidelity is not None
    fidelity = next(iter(job.fidelity["outputs"].values()))
    stats = job.raw["optimization_stats"]
    p99 = asked.latencies_ms[int(len(asked.latencies_ms) * 0.99)]
    table = Table(title="Handwritten digits, from training to an endpoint", title_justify="left")
    table.add_column("measured")
    table.add_column("value", justify="right")
    rows = [
        ("machine", f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"),
        ("test scans, never seen in training", f"{len(trained.labels)}"),
        ("accuracy of the trained network", f"{trained.accuracy:.2%}"),
        ("accuracy of the endpoint, over HTTP", f"{asked.accuracy:.2%}"),
        ("fidelity: verdict", job.fidelity["verdict"]),
        ("fidelity: largest difference", f"{fidelity['max_abs']:.1e}"),
        ("fidelity: same top class", f"{fidelity['top1_agreement']:.1%}"),
        ("source (.pt2)", f"{stats['original_size_mb']:.3f} MB"),
        ("artefact (ONNX)", f"{stats['exported_size_mb']:.3f} MB"),
        ("training", f"{trained.seconds:.1f} s"),
        ("register and upload", f"{timings['upload']:.2f} s"),
        ("export and proof", f"{timings['export']:.2f} s"),
        ("deployment", f"{timings['deploy']:.2f} s"),
        ("latency over HTTP, 1 caller, p50", f"{statistics.median(asked.latencies_ms):.2f} ms"),
        ("latency over HTTP, 1 caller, p99", f"{p99:.2f} ms"),
        (f"throughput over HTTP, {CALLERS} callers", f"{asked.requests_per_s:,.0f} requests/s"),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_where_to_look(
    addresses: dict[str, Any], deployment: Deployment, trained: Trained, data_dir: Path, *, keep: bool
) -> None:
    if not keep:
        console.print("Everything is stopped now. [bold]scripts/quickstart --keep[/bold] leaves it running.")
        return
    scan = data_dir / "scan.json"
    scan.write_text(json.dumps({"inputs": trained.scans[:1].tolist()}))
    console.print(
        f"""
It goes on running. Where to look:
  the API's page    {addresses["api"]}/docs/
  the model         {addresses["api"]}/api/v1/models?name=digits
  metrics           {addresses["api"]}/metrics
  log and data      {data_dir}

Ask the endpoint about a scan of a {trained.labels[0]}:
  curl {deployment.endpoint_url} -H 'Authorization: Bearer {deployment.api_key}' -d @{scan}

The commands, for this service:
  .venv/bin/model-service --url {addresses["api"]} models list

Stop it, and remove its data:
  kill {addresses["pid"]}; rm -r {data_dir.parent}""",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ClientError, EmbeddedError, RuntimeError) as exc:
        sys.exit(f"scripts/quickstart: {exc}")
