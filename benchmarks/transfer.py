"""Uploads and downloads beside nginx, the plain GridFS bucket and MLflow's artefact proxy.

``python benchmarks/transfer.py``; ``--rounds 1 --size 64MB --no-memory`` is a quick look. nginx must be there
(Debian: nginx-light); MLflow is installed by this, into an environment of its own.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bson import ObjectId
from common import (
    MB,
    MLFLOW,
    Server,
    api_server,
    free_port,
    in_turns,
    median_ratio,
    peer_python,
    serving,
    setting,
    table,
    write_results,
)
from gridfs import GridFSBucket
from pymongo import MongoClient, WriteConcern
from streams import download, post_json, upload
from transfer_memory import Memory, measure_memory

from model_service.config_types import parse_size
from model_service.embedded import servers

DATABASE = "benchmark"
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Source:
    """A file of random bytes that is another one whenever it is asked for."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        with path.open("wb") as file:
            for start in range(0, size_bytes, MB):
                file.write(os.urandom(min(MB, size_bytes - start)))

    def fresh(self) -> Path:
        with self.path.open("r+b") as file:
            file.write(os.urandom(32))
        return self.path


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--size", type=parse_size, default=512 * 2**20)
    arguments.add_argument("--folder", type=Path, help="where the databases are, for as long as it runs")
    arguments.add_argument("--no-memory", action="store_true")
    given = arguments.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.folder)))
        addresses = stack.enter_context(servers(folder / "servers", cache_gb=None))
        settings = {"MONGODB_DB": DATABASE, "MAX_FILE_SIZE": "8GB"}
        (folder / "cached").mkdir()
        (folder / "direct").mkdir()
        cached = stack.enter_context(api_server(addresses, folder / "cached", **settings))
        direct = stack.enter_context(
            api_server(addresses, folder / "direct", CACHE_MAX_BYTES="0", **settings)
        )
        client: MongoClient[Any] = stack.enter_context(MongoClient(addresses.mongodb_url))
        source = Source(folder / "source", given.size)
        downloads = measure_downloads(given.rounds, source, cached, direct, client, folder)
        mlflow = stack.enter_context(mlflow_server(folder))
        uploads = measure_uploads(given.rounds, source, direct, mlflow, client, folder)
        memory = None if given.no_memory else measure_memory(direct, new_model, folder)
    write_results("transfer", report(given.size, given.rounds, downloads, uploads, memory))


def measure_downloads(
    rounds: int, source: Source, cached: Server, direct: Server, client: MongoClient[Any], folder: Path
) -> dict[str, list[float]]:
    path = new_model(direct)
    upload("POST", f"{direct.url}{path}/upload", source.fresh())
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
    file = client[DATABASE]["models.files"].find_one({"metadata.sha256": digest})
    assert file is not None
    size = source.path.stat().st_size
    wait_until_cached(f"{cached.url}{path}/download", cached, folder / "cached" / "cache" / "blobs" / digest)
    with nginx(folder, source.path.parent) as url:
        return in_turns(
            rounds,
            {
                "cached": lambda: speed(size, lambda: download(f"{cached.url}{path}/download")),
                "nginx": lambda: speed(size, lambda: download(f"{url}/{source.path.name}")),
                "GridFS": lambda: speed(size, lambda: download(f"{direct.url}{path}/download")),
                "readchunk": lambda: speed(size, lambda: read_chunks(client, file["_id"])),
            },
        )


def measure_uploads(
    rounds: int, source: Source, direct: Server, mlflow: Server, client: MongoClient[Any], folder: Path
) -> dict[str, list[float]]:
    size = source.path.stat().st_size
    artefacts = f"{mlflow.url}/api/2.0/mlflow-artifacts/artifacts"

    def bucket(concern: WriteConcern) -> Callable[[], float]:
        plain = GridFSBucket(client.get_database("plain", write_concern=concern))

        def once() -> None:
            with source.path.open("rb") as file:
                plain.upload_from_stream("source", file)

        return lambda: speed(size, once, prepare=source.fresh)

    def ours() -> float:
        path = new_model(direct)
        return speed(
            size, lambda: upload("POST", f"{direct.url}{path}/upload", source.path), prepare=source.fresh
        )

    return in_turns(
        rounds,
        {
            "upload": ours,
            "bucket, majority": bucket(WriteConcern(w="majority")),
            "bucket, w=1": bucket(WriteConcern(w=1)),
            "MLflow": lambda: speed(
                size,
                lambda: upload("PUT", f"{artefacts}/{ObjectId()}/source", source.path),
                prepare=source.fresh,
            ),
            "disk": lambda: speed(size, lambda: copy_safely(source.path, folder / "copy")),
        },
    )


def copy_safely(source: Path, target: Path) -> None:
    """What one copy of a file on this disk takes."""
    target.unlink(missing_ok=True)
    with source.open("rb") as original, target.open("wb") as copy:
        shutil.copyfileobj(original, copy, MB)
        copy.flush()
        os.fsync(copy.fileno())


def speed(size: int, work: Callable[[], object], *, prepare: Callable[[], object] = lambda: None) -> float:
    """MB/s. What earlier measurements left for the disk to write is written first."""
    prepare()
    os.sync()
    started = time.perf_counter()
    work()
    return size / MB / (time.perf_counter() - started)


def new_model(server: Server) -> str:
    answer = post_json(
        f"{server.url}/api/v1/models",
        {
            "name": f"transfer-{ObjectId()}",
            "algorithm": "Autoencoder",
            "framework": "PyTorch",
            "task_type": "anomaly_detection",
            "created_by": "benchmark",
        },
    )
    return f"/api/v1/models/{answer['model_id']}"


def wait_until_cached(url: str, server: Server, file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{server.url} did not cache the file")
        download(url)


def read_chunks(client: MongoClient[Any], blob_id: ObjectId) -> None:
    file = GridFSBucket(client[DATABASE], bucket_name="models").open_download_stream(blob_id)
    received = 0
    while received < file.length:
        received += len(file.readchunk())


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, root=root, port=port))
    folder.chmod(0o755)  # nginx's worker is another user
    argv = ["nginx", "-c", str(configuration), "-e", str(folder / "nginx.log")]
    url = f"http://127.0.0.1:{port}"
    (root / "ready").write_text("ready")
    with serving(argv, url, folder / "nginx.out", env=os.environ, ready="/ready"):
        yield url


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """MLflow's fastest set-up for uploads: uvicorn, with the artefacts in a folder."""
    port = free_port()
    argv = [
        str(peer_python("mlflow", MLFLOW)),
        "-m",
        "mlflow",
        "server",
        "--serve-artifacts",
        "--workers",
        "2",
    ]
    argv += ["--artifacts-destination", str(folder / "artefacts")]
    argv += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with serving(argv, url, folder / "mlflow.log", env=os.environ, ready="/health") as server:
        yield server


def report(
    size: int, rounds: int, down: dict[str, list[float]], up: dict[str, list[float]], memory: Memory | None
) -> str:
    def row(
        name: str, what: str, ours: list[float], peer: str, theirs: list[float], promise: str
    ) -> list[str]:
        mine, other = statistics.median(ours), statistics.median(theirs)
        return [
            name,
            what,
            f"{mine:,.0f}",
            peer,
            f"{other:,.0f}",
            f"{median_ratio(ours, theirs):.2f}",
            promise,
        ]

    header = ["direction", "ours", "MB/s", "beside", "MB/s", "ratio", "promise"]
    rows = [
        row("down", "from the disk cache", down["cached"], "nginx, sendfile", down["nginx"], "≥ 1.0"),
        row(
            "down",
            "from GridFS",
            down["GridFS"],
            "bare `readchunk()`, same chunks",
            down["readchunk"],
            "≥ 0.8",
        ),
        row("up", "raw body", up["upload"], "`upload_from_stream`, majority", up["bucket, majority"], "≥ 2"),
        row("up", "raw body", up["upload"], "`upload_from_stream`, w=1", up["bucket, w=1"], ""),
        row("up", "raw body", up["upload"], "MLflow's proxy, uvicorn", up["MLflow"], "≥ 1"),
        row("up", "raw body", up["upload"], "one copy of the file, fsync", up["disk"], ""),
    ]
    text = (
        "# Transfers\n\n"
        f"{setting()} One file of {size / MB:,.0f} MB of random bytes over one connection; {rounds} rounds "
        "in turns; medians, and the median of the rounds' ratios. Everything runs on this one machine, the "
        "client too. The plain bucket has its default chunks of 255 KiB. A replica set writes "
        "what it is sent three times (journal, oplog, collection), the proxy once and without fsync.\n\n"
        f"{table(header, rows)}"
    )
    return text if memory is None else f"{text}\n## Memory\n\n{memory.report()}"


if __name__ == "__main__":
    main()
