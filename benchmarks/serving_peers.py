"""The inference servers beside ours, each in an environment of its own, and the best of their protocols.

Every one runs one process of its own kind, without an access log; Triton also with as many workers as there
are cores. MLServer infers in its own process (``parallel_workers=0``), which is its fastest set-up.
"""

import json
import os
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import serving_models as models
from common import Server, free_port, peer_python, serving
from serving_load import ask
from serving_models import Exported, Question

ONNXRUNTIME = f"onnxruntime=={version('onnxruntime')}"
MLSERVER = ("mlserver==1.7.1", ONNXRUNTIME)
BENTOML = ("bentoml==1.4.39", ONNXRUNTIME)
MLFLOW = ("mlflow==3.17.2", f"onnx=={version('onnx')}", ONNXRUNTIME)
TRITON = ("nvidia-pytriton==0.7.0", ONNXRUNTIME)
SCRIPTS = Path(__file__).parent / "peers"

Models = Mapping[str, Exported]
# By model, then by body: "JSON" or "binary".
Questions = dict[str, dict[str, Question]]


@dataclass(frozen=True)
class Running:
    """A peer that answers; MLflow has a server for each model."""

    servers: Sequence[Server]
    questions: Questions


Start = Callable[[Models, Path], AbstractContextManager[Running]]


@contextmanager
def mlserver(exported: Models, folder: Path) -> Iterator[Running]:
    """No binary tensors over HTTP in this one."""
    port, grpc, metrics = free_port(), free_port(), free_port()
    settings = {
        **{"host": "127.0.0.1", "http_port": port, "grpc_port": grpc, "metrics_port": metrics},
        **{"debug": False, "parallel_workers": 0},
    }
    _write(folder / "settings.json", settings)
    for name, model in exported.items():
        one = {
            **{"name": name, "implementation": "mlserver_runtime.OnnxModel"},
            "parameters": {"uri": str(model.onnx)},
        }
        _write(folder / name / "model-settings.json", one)
    url = f"http://127.0.0.1:{port}"
    questions: Questions = {
        name: {"JSON": models.v2_json(f"{url}/v2/models/{name}/infer", model)}
        for name, model in exported.items()
    }
    program = peer_python("mlserver", MLSERVER).with_name("mlserver")
    argv = [str(program), "start", str(folder)]
    with _serving(argv, url, folder, exported, questions, PYTHONPATH=str(SCRIPTS)) as server:
        yield Running([server], questions)


@contextmanager
def bentoml(exported: Models, folder: Path) -> Iterator[Running]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    questions: Questions = {
        name: {
            "JSON": models.bento_json(f"{url}/{name}", model),
            "binary": models.bento_raw(f"{url}/{name}_raw", model),
        }
        for name, model in exported.items()
    }
    program = peer_python("bentoml", BENTOML).with_name("bentoml")
    argv = [
        *(str(program), "serve", "bentoml_service:Models", "--working-dir", str(SCRIPTS)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    variables = {
        "SERVING_MODELS": ",".join(f"{name}={model.onnx}" for name, model in exported.items()),
        "BENTOML_HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    with _serving(argv, url, folder, exported, questions, **variables) as server:
        yield Running([server], questions)


@contextmanager
def mlflow(exported: Models, folder: Path) -> Iterator[Running]:
    python = peer_python("mlflow", MLFLOW)
    with ExitStack() as stack:
        servers, questions = [], {}
        for name, model in exported.items():
            url = f"http://127.0.0.1:{free_port()}"
            saved = folder / name
            subprocess.run([python, SCRIPTS / "mlflow_model.py", model.onnx, saved], check=True)
            questions[name] = {"JSON": models.mlflow_json(f"{url}/invocations", model)}
            argv = [
                *(str(python), "-m", "mlflow", "models", "serve", "--model-uri", str(saved)),
                *("--env-manager", "local", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", url.rpartition(":")[2]),
            ]
            one = {name: model}
            servers.append(stack.enter_context(_serving(argv, url, saved, one, questions)))
        yield Running(servers, questions)


@contextmanager
def triton(workers: int, exported: Models, folder: Path) -> Iterator[Running]:
    url = f"http://127.0.0.1:{free_port()}"
    questions: Questions = {}
    for name, model in exported.items():
        path = f"{url}/v2/models/{name}/infer"
        questions[name] = {"JSON": models.v2_json(path, model), "binary": models.v2_binary(path, model)}
    argv = [
        *(str(peer_python("pytriton", TRITON)), str(SCRIPTS / "triton_server.py")),
        *(url.rpartition(":")[2], str(workers)),
        *(f"{name}={model.onnx}" for name, model in exported.items()),
    ]
    # Its backend's process links with libpython: with this interpreter's, not the system's.
    libraries = str(sysconfig.get_config_var("LIBDIR"))
    with _serving(argv, url, folder, exported, questions, LD_LIBRARY_PATH=libraries) as server:
        yield Running([server], questions)


MANY = os.cpu_count() or 1
TRITON_ONE = "Triton, 1 worker"
TRITON_MANY = f"Triton, {MANY} workers"
PEERS: Mapping[str, Start] = {
    "MLServer": mlserver,
    "BentoML": bentoml,
    "mlflow models serve": mlflow,
    TRITON_ONE: partial(triton, 1),
    **({TRITON_MANY: partial(triton, MANY)} if MANY > 1 else {}),
}
# Triton's backend now and then does not find its frontend in time.
_TRIES = 3
VERSIONS = (*MLSERVER[:1], *BENTOML[:1], *MLFLOW[:1], *TRITON[:1], ONNXRUNTIME)


@contextmanager
def started(name: str, exported: Models, folder: Path) -> Iterator[Running]:
    """The peer of this name, which is given a few tries. Raises SystemExit: it does not start."""
    with ExitStack() as stack:
        for n in range(1, _TRIES + 1):
            try:
                running = stack.enter_context(PEERS[name](exported, folder / f"{name}-{n}".replace(" ", "-")))
                break
            except SystemExit as exc:
                if n == _TRIES:
                    raise
                print(f"  {name}, once more: {exc}", flush=True)
        yield running


@contextmanager
def _serving(
    argv: Sequence[str], url: str, folder: Path, exported: Models, questions: Questions, **variables: str
) -> Iterator[Server]:
    """Ready when it says of each model what the model says."""
    path = f"{Path(argv[0]).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, **variables}
    folder.mkdir(parents=True, exist_ok=True)

    def right() -> bool:
        return all(is_right(questions[name]["JSON"], model) for name, model in exported.items())

    with serving(argv, url, folder / "server.log", env=env, ready=right, cwd=folder) as server:
        for name, model in exported.items():
            for body, question in questions[name].items():
                if not model.is_answered_by(ask(question)):
                    raise SystemExit(f"{argv[0]}: a wrong answer of {name} to {body}")
        yield server


def is_right(question: Question, model: Exported) -> bool:
    """False too while nothing listens, or it answers that it is not ready."""
    try:
        return model.is_answered_by(ask(question))
    except (OSError, ValueError):
        return False


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
