"""The registry beside MLflow's best set-up: gunicorn with two processes of two threads, SQLite with a WAL."""

import itertools
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

from common import MLFLOW, Server, free_port, peer_python, serving
from http_load import Target, at_once, repeated
from model_versions import random_tag, random_words
from registry_sizes import MODELS, Registry

MLFLOW_API = "/api/2.0/mlflow"
CONNECTIONS = 16
LIST = 100
PROMISES = {"GET by id": 5.0, f"list of {LIST}": 6.0, "create": 1.0}


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """Started twice: the first start makes the database, whose journal is then changed for good."""
    database = folder / "mlflow.db"
    with _started(folder, database):
        pass
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    with _started(folder, database) as server:
        yield server


@contextmanager
def _started(folder: Path, database: Path) -> Iterator[Server]:
    port = free_port()
    argv = [
        *(str(peer_python("mlflow", MLFLOW)), "-m", "mlflow", "server"),
        *(
            "--backend-store-uri",
            f"sqlite:///{database}",
            "--artifacts-destination",
            str(folder / "artefacts"),
        ),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "2"),
        *("--gunicorn-opts", "--threads 2"),
    ]
    env = {**os.environ, "PATH": f"{Path(argv[0]).parent}:{os.environ['PATH']}"}
    with serving(argv, f"http://127.0.0.1:{port}", folder / "mlflow.log", env=env, ready="/health") as server:
        yield server


def fill_mlflow(target: Target, models: int) -> None:
    """Register so many, each with what one here has: a description, three tags, a version of it."""
    chance = random.Random(0)  # noqa: S311 - data, no secret
    for number in range(models):
        name = f"model-{number}"
        tags = [{"key": random_tag(chance), "value": ""} for _ in range(3)]
        description = " ".join(random_words(chance, 12))
        model = {"name": name, "description": description, "tags": tags}
        target.ask(target.post(f"{MLFLOW_API}/registered-models/create", model))
        version = {"name": name, "source": f"s3://models/{number}", "tags": tags}
        target.ask(target.post(f"{MLFLOW_API}/model-versions/create", version))


def measurements(
    ours: Registry, theirs: Target, models: int, seconds: float
) -> dict[str, Callable[[], float]]:
    """Requests a second at sixteen connections, of both, for each promise."""
    fresh = itertools.count()
    mark = os.getpid()

    def rate(target: Target, requests: Iterator[bytes]) -> float:
        return at_once(target, requests, connections=CONNECTIONS, seconds=seconds).per_second

    def theirs_get() -> Iterator[bytes]:
        paths = (
            f"{MLFLOW_API}/registered-models/get?{urlencode({'name': f'model-{n}'})}"
            for n in range(min(models, 1000))
        )
        return repeated([theirs.get(path) for path in paths])

    def ours_create() -> Iterator[bytes]:
        for n in fresh:
            body = {
                "name": f"new-{mark}-{n}",
                "algorithm": "svm",
                "metrics": {"accuracy": 0.9},
                "tags": ["new"],
            }
            yield ours.target.post(MODELS, body)

    def theirs_create() -> Iterator[bytes]:
        return (
            theirs.post(f"{MLFLOW_API}/registered-models/create", {"name": f"new-{mark}-{n}"}) for n in fresh
        )

    get, a_list, create = PROMISES
    return {
        f"{get}, ours": lambda: rate(ours.target, repeated(ours.requests("by id", 1000))),
        f"{get}, MLflow": lambda: rate(theirs, theirs_get()),
        f"{a_list}, ours": lambda: rate(ours.target, repeated([ours.target.get(f"{MODELS}?limit={LIST}")])),
        f"{a_list}, MLflow": lambda: rate(
            theirs, repeated([theirs.get(f"{MLFLOW_API}/registered-models/search?max_results={LIST}")])
        ),
        f"{create}, ours": lambda: rate(ours.target, ours_create()),
        f"{create}, MLflow": lambda: rate(theirs, theirs_create()),
    }
