"""The images, built and run by buildah without an engine (chroot isolation), on a base from debootstrap."""

import http.client
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import urllib3

from model_service.client import ModelServiceClient
from scripts import quickstart
from tests.containers import buildah
from tests.containers.buildah import BASE, Builder, image
from tests.containers.composed import STOP_S, Composed, compose, databases, target
from tests.containers.dockerfile import TARGETS, images
from tests.containers.test_compose_init import compose_init
from tests.e2e.conftest import free_ports
from tests.test_docs import ROOT
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(bool(buildah.missing()), reason=f"needs {', '.join(buildah.missing())}"),
]
OURS = ("model-service", "worker", "serving")
USER = 10001
START_S = 180


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    folder = tmp_path_factory.mktemp("buildah")
    builder = Builder(folder)
    try:
        builder.make_base()
        yield builder
    finally:
        subprocess.run(builder.argv("rm", "--all"), env=builder.env(), capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def built(builder: Builder) -> Builder:
    for name in TARGETS:
        builder.build(name)
    return builder


@contextmanager
def container(builder: Builder, name: str) -> Iterator[str]:
    found = builder.output("from", image(name))
    try:
        yield found
    finally:
        builder.run("rm", found, stdout=subprocess.DEVNULL)


def argv(
    builder: Builder, name: str, env: dict[str, str], command: tuple[str, ...], *volumes: str
) -> list[str]:
    """Run a command in a container, with the image's variables, user and folder."""
    options = [f"--volume={volume}" for volume in volumes] + [
        f"--env={key}={value}" for key, value in env.items()
    ]
    return builder.argv("run", *options, name, "--", *command)


def first_command(name: str) -> tuple[str, ...]:
    return (*images()[name].entrypoint, *images()[name].command)


class Containers:
    """The services of the compose file in containers of their images."""

    def __init__(self, builder: Builder, composed: Composed, names: dict[str, str]) -> None:
        self._builder, self._composed, self._names = builder, composed, names
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def argv(self, service: str, command: tuple[str, ...]) -> list[str]:
        definition = compose()["services"][service]
        secrets = self._composed.folder / "secrets"
        volumes = [f"{secrets / name}:/run/secrets/{name}:ro" for name in definition["secrets"]]
        home = self._composed.folder / f"{service}-home"
        home.mkdir(exist_ok=True)
        shutil.chown(home, USER, USER)
        env = self._composed.settings(service)
        return argv(self._builder, self._names[target(service)], env, command, *volumes, f"{home}:/app")

    def start(self, service: str) -> None:
        with (self._composed.folder / f"{service}.log").open("wb") as log:
            command = self.argv(service, first_command(target(service)))
            self.processes[service] = subprocess.Popen(command, env=self._builder.env(), stderr=log)

    def run(self, service: str, *command: str) -> "subprocess.CompletedProcess[str]":
        words = self.argv(service, command)
        return subprocess.run(words, env=self._builder.env(), capture_output=True, text=True, timeout=120)

    def is_healthy(self, service: str) -> bool:
        assert self.processes[service].poll() is None, self.log(service)
        return self.run(service, *images()[target(service)].health).returncode == 0

    def log(self, service: str) -> str:
        return (self._composed.folder / f"{service}.log").read_text(errors="replace")[-3000:]

    def first_process(self, service: str) -> psutil.Process:
        return first_process(self.processes[service])


def first_process(started: "subprocess.Popen[bytes]") -> psutil.Process:
    """dumb-init: process 1 in a container of its own."""
    below = psutil.Process(started.pid).children(recursive=True)
    (found,) = [process for process in below if process.name() == "dumb-init"]
    return found


def kill(started: "subprocess.Popen[bytes]") -> None:
    """Kill a container that still runs. Its processes have no namespace that would end with the first one."""
    if started.poll() is None:
        first = first_process(started)
        for process in [first, *first.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        started.wait()


@pytest.fixture(scope="module")
def containers(built: Builder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    folder = tmp_path_factory.mktemp("containers")
    assert compose_init(folder).returncode == 0
    with (
        databases(folder) as composed,
        container(built, "api") as api,
        container(built, "worker") as worker,
        container(built, "serving") as serving,
    ):
        containers = Containers(built, composed, {"api": api, "worker": worker, "serving": serving})
        done = containers.run("setup", *compose()["services"]["setup"]["command"])
        assert done.returncode == 0, done.stderr
        try:
            for service in OURS:
                containers.start(service)
            for service in OURS:
                wait_for(lambda name=service: containers.is_healthy(name), f"{service}", deadline_s=START_S)
            yield containers
        finally:
            for process in containers.processes.values():
                kill(process)


def test_the_path_of_the_quickstart(containers: Containers, tmp_path: Path) -> None:
    """Train, register, export, verify, deploy, predict: over HTTP, in the containers of the compose file."""
    composed = containers._composed
    key = (composed.folder / "secrets" / "api_key").read_text()
    trained = quickstart.train(lambda progress: None)
    url = f"http://127.0.0.1:{composed.ports['model-service']}"
    with ModelServiceClient(url, api_key=key, progress=False) as client:
        _, deployment, _ = quickstart.register_to_deploy(client, trained, tmp_path)
        assert quickstart.ask(client, deployment, trained).accuracy == trained.accuracy


def test_no_process_is_root(containers: Containers) -> None:
    for service in OURS:
        first = containers.first_process(service)
        found = [first, *first.children(recursive=True)]
        assert {process.uids().real for process in found} == {USER}, service
        assert len(found) > 1, service


def test_only_the_volumes_are_written(containers: Containers) -> None:
    for service in OURS:
        found = containers.run(
            service, "find", "/", "-xdev", "-user", str(USER), "-newer", "/opt/venv/pyvenv.cfg"
        )
        written = [
            path for path in found.stdout.splitlines() if not path.startswith(("/app", "/tmp", "/proc"))
        ]
        assert written == [], service


def test_the_registry_has_no_framework_and_no_compiler(containers: Containers) -> None:
    code = (
        "import importlib.util as u, shutil\n"
        "print([n for n in ('torch', 'numpy', 'onnx', 'onnxruntime', 'pip') if u.find_spec(n)])\n"
        "print([n for n in ('gcc', 'cc', 'make', 'pip') if shutil.which(n)])"
    )
    assert containers.run("model-service", "python", "-c", code).stdout.splitlines() == ["[]", "[]"]


def test_sigterm_ends_each_in_time_after_its_running_requests(containers: Containers) -> None:
    """A request whose body is half sent at SIGTERM is answered."""
    composed = containers._composed
    key = (composed.folder / "secrets" / "api_key").read_text()
    body = b'{"name": "late", "algorithm": "convnet"}'
    connection = http.client.HTTPConnection("127.0.0.1", composed.ports["model-service"], timeout=30)
    connection.putrequest("POST", "/api/v1/models")
    for name, value in (
        ("X-API-Key", key),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    ):
        connection.putheader(name, value)
    connection.endheaders(body[:10])
    for service in OURS:
        containers.first_process(service).send_signal(signal.SIGTERM)
    connection.send(body[10:])
    assert connection.getresponse().status == 201
    for service in OURS:
        assert containers.processes[service].wait(timeout=STOP_S) == 0, containers.log(service)


def test_without_authentication_the_registry_ends_with_one_sentence(built: Builder) -> None:
    with container(built, "api") as name:
        env = {"MONGODB_URL": "mongodb://127.0.0.1:1/tensorfleet"}
        words = argv(built, name, env, first_command("api"))
        ended = subprocess.run(words, env=built.env(), capture_output=True, text=True, timeout=60)
    (line,) = [  # buildah adds the others
        line for line in ended.stderr.splitlines() if not re.search("exit status|subprocess exited", line)
    ]
    assert line.startswith("HOST=0.0.0.0 is reachable from other machines: set ENABLE_AUTH=true")


def test_everything_in_one_container(built: Builder, tmp_path: Path) -> None:
    port, inference_port = free_ports(2)
    url = f"http://127.0.0.1:{port}"
    home = tmp_path / "home"
    home.mkdir()
    shutil.chown(home, USER, USER)
    env = {
        "ENABLE_AUTH": "true",
        "API_KEY": "correct horse battery staple",
        "PORT": str(port),
        "INFERENCE_PORT": str(inference_port),
        "MODEL_SERVICE_URL": url,
    }
    with container(built, "all") as name:
        words = argv(built, name, env, first_command("all"), f"{home}:/app")
        with (tmp_path / "log").open("wb") as log:
            started = subprocess.Popen(words, env=built.env(), stdout=log, stderr=log)

        def is_ready() -> bool:
            assert started.poll() is None, (tmp_path / "log").read_text()[-3000:]
            health = argv(built, name, env, images()["all"].health)
            return subprocess.run(health, env=built.env(), capture_output=True).returncode == 0

        try:
            wait_for(is_ready, "everything", deadline_s=START_S)
            health = urllib3.request("GET", f"{url}/health").json()
            assert health["status"] == "healthy", health
            first = first_process(started)
            assert {each.uids().real for each in [first, *first.children(recursive=True)]} == {USER}
            first.send_signal(signal.SIGTERM)
            assert started.wait(timeout=STOP_S) == 0
        finally:
            kill(started)


def test_the_configuration_of_the_images(built: Builder) -> None:
    for name in TARGETS:
        config = built.config(name)
        assert config["User"] == f"{USER}:{USER}"
        assert config["StopSignal"] == "SIGTERM"
        assert config["Healthcheck"]["Test"] == ["CMD", "model-service", "health"]
        assert config["Labels"]["org.opencontainers.image.version"] == "test"


def test_the_documented_sizes(built: Builder) -> None:
    base = built.size_bytes(BASE)
    rows = re.findall(
        r"^\| `(\w+)`.*\| ([\d.]+) (MB|GB) \|$", (ROOT / "docs/containers.md").read_text(), re.MULTILINE
    )
    assert "api" in {name for name, _, _ in rows}
    for name, number, unit in rows:
        documented = float(number) * {"MB": 1e6, "GB": 1e9}[unit]
        assert built.size_bytes(image(name)) - base == pytest.approx(documented, rel=0.15), name
