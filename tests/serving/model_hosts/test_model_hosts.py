"""No model can stop its neighbours: real models, real processes, requests over HTTP."""

import errno
import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from model_service.config import Settings
from model_service.serving.engine.kills import SUSPENDING_CALLERS
from model_service.serving.model_hosts.groups import ModelHosts
from model_service.storage.deployments.usage import UsageCounts
from tests.serving.conftest import KEY, Endpoint, Reply, World
from tests.serving.model_hosts import hostile, hostile_host
from tests.waiting import wait_for

Listen = Callable[..., Endpoint]
Rewrite = Callable[[str, bytes], bytes]
TIMEOUT_MS = 1000
QUICK = {"inputs": [[1.0, 2.0, 3.0]]}
TWICE = {"output": [[2.0, 4.0, 6.0]]}


def asking(value: float, other: float = 2.0) -> dict[str, list[list[float]]]:
    return {"inputs": [[value, other, 3.0]]}


@contextmanager
def watched(*endpoints: Endpoint) -> Iterator[list[Reply]]:
    """Others are under load meanwhile, and the server says that it lives; the answers that were no 200."""
    failed: list[Reply] = []
    stop = threading.Event()

    def load(ask: Callable[[], Reply]) -> None:
        while not stop.is_set():
            reply = ask()
            if reply.status != 200:
                failed.append(reply)

    asked = [lambda each=each: each.ask(QUICK) for each in endpoints]  # type: ignore[misc]
    asked.append(lambda: endpoints[0].request("GET", "/health/live"))
    threads = [threading.Thread(target=load, args=(ask,)) for ask in asked]
    for thread in threads:
        thread.start()
    try:
        yield failed
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def two_and(world: World, listen: Listen, archive: bytes, bad: bytes) -> tuple[Endpoint, Endpoint, Endpoint]:
    """The hostile one; one in the front; and one in the hostile one's host."""
    first = world.deploy(bad, timeout_ms=TIMEOUT_MS)
    host = world.serving(first)
    others = [world.deploy(archive), world.deploy_routing({"members": [world.member(bad)]}, name="neighbour")]
    for each in others:
        wait_for(lambda each=each: world.status(each) == "active", "the others to be active")  # type: ignore[misc]
    endpoint = listen(host, first)
    front, neighbour = (replace(endpoint, deployment_id=each) for each in others)
    return endpoint, front, neighbour


def process_of(world: World) -> int:
    (state,) = world.model_hosts.state()
    assert state["pid"] is not None
    return int(state["pid"])


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["error"]["code"]


@pytest.fixture
def loop(rewrite: Rewrite) -> bytes:
    return rewrite("model.onnx", hostile.loop())


def test_a_loop_without_end_is_ended_and_nobody_else_notices(
    world: World, listen: Listen, package_zip: bytes, loop: bytes
) -> None:
    endpoint, front, neighbour = two_and(world, listen, package_zip, loop)
    before = process_of(world)
    with watched(front, neighbour) as failed:
        asked = time.monotonic()
        answer = endpoint.ask(asking(1e18))
        took = time.monotonic() - asked
        assert endpoint.ask(QUICK).json["outputs"] == TWICE
    assert code(answer) == (504, "deadline_exceeded")
    assert took < TIMEOUT_MS / 1000 + 1
    assert failed == []
    assert process_of(world) == before, "to end a loop needs no new process"


def test_one_operator_that_runs_long_is_ended_with_its_process(
    world: World, listen: Listen, package_zip: bytes, rewrite: Rewrite
) -> None:
    bad = rewrite("model.onnx", hostile.multiplication())
    endpoint, front, neighbour = two_and(world, listen, package_zip, bad)
    before = process_of(world)
    with watched(front, neighbour) as failed:
        asked = time.monotonic()
        answer = endpoint.ask(asking(16_000.0))
        took = time.monotonic() - asked
        again = wait_for(lambda: refused(endpoint, asking(16_000.0)), "the input to be refused")
        wait_for(lambda: endpoint.ask(QUICK).status == 200, "another process")
    assert code(answer) == (504, "deadline_exceeded")
    assert took < TIMEOUT_MS / 1000 + 1
    assert code(again) == (422, "input_refused")
    assert failed == []
    assert process_of(world) != before
    assert not psutil.pid_exists(before)


def refused(endpoint: Endpoint, question: object) -> Reply | None:
    """Once the process was killed, which is half a second after the caller's answer."""
    reply = endpoint.ask(question)
    return reply if reply.status == 422 else None


def test_a_hundred_gigabytes_are_an_error_of_who_asked_for_them(
    world: World, listen: Listen, package_zip: bytes, rewrite: Rewrite
) -> None:
    bad = rewrite("model.onnx", hostile.allocation())
    endpoint, front, neighbour = two_and(world, listen, package_zip, bad)
    before = process_of(world)
    with watched(front, neighbour) as failed:
        answer = endpoint.ask(asking(25e9))
        assert endpoint.ask(QUICK).json["outputs"] == TWICE
    assert code(answer) == (500, "model_out_of_memory")
    assert failed == []
    assert process_of(world) == before


# Models whose code is their maker's.


@pytest.fixture
def forced(world: World, settings: Settings) -> World:
    """A world whose model hosts run hostile Python."""
    world.model_hosts.close()
    program = (sys.executable, "-I", hostile_host.__file__)
    world.model_hosts = ModelHosts(settings, program)
    return world


@pytest.fixture
def script(rewrite: Rewrite, package_zip: bytes, tmp_path: Path) -> bytes:
    """The package of all tests as a TorchScript one."""
    with zipfile.ZipFile(io.BytesIO(package_zip)) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    metadata["model_info"]["export_format"] = "torchscript"
    return rewrite("metadata.json", json.dumps(metadata).encode())


def test_a_crash_is_told_once_and_refused_then(
    forced: World, listen: Listen, package_zip: bytes, script: bytes
) -> None:
    endpoint, front, neighbour = two_and(forced, listen, package_zip, script)
    with watched(front, neighbour) as failed:
        answer = endpoint.ask(asking(hostile_host.CRASH))
        assert code(endpoint.ask(asking(hostile_host.CRASH))) == (422, "input_refused")
        wait_for(lambda: endpoint.ask(QUICK).status == 200, "another process")
    assert code(answer) == (500, "model_crashed")
    assert "SIGSEGV" in answer.json["error"]["message"]
    assert failed == []


def test_a_host_cannot_forge_the_time_of_its_runs(forced: World, listen: Listen, script: bytes) -> None:
    deployment_id = forced.deploy(script)
    endpoint = listen(forced.serving(deployment_id), deployment_id)
    assert endpoint.ask(asking(hostile_host.FORGE)).status == 200
    forced.usage.flush(UsageCounts(forced.database))
    (row,) = forced.database.usage.find()
    assert 0 < row["inference_ms"] < 300_000


def test_a_batch_of_one_bad_input_answers_the_others(forced: World, listen: Listen, script: bytes) -> None:
    deployment_id = forced.deploy(script, batching={"max_batch_size": 8, "max_delay_ms": 200})
    endpoint = listen(forced.serving(deployment_id), deployment_id)
    answers: dict[float, Reply] = {}

    def ask(value: float) -> None:
        answers[value] = endpoint.ask(asking(value))

    values = [1.0, 2.0, float(hostile_host.CRASH), 4.0]
    threads = [threading.Thread(target=ask, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert code(answers.pop(float(hostile_host.CRASH))) == (500, "model_crashed")
    found = {value: answer.json["outputs"]["output"][0][0] for value, answer in answers.items()}
    assert found == {1.0: 2.0, 2.0: 4.0, 4.0: 8.0}


@contextmanager
def in_flight(endpoint: Endpoint, value: float) -> Iterator[list[Reply]]:
    """A request that is being run; its answer at the end."""
    hosted = endpoint.host.get(endpoint.deployment_id)
    assert hosted is not None
    answers: list[Reply] = []
    thread = threading.Thread(target=lambda: answers.append(endpoint.ask(asking(value))))
    thread.start()
    wait_for(lambda: hosted.flight.requests, "the request to arrive")
    yield answers
    thread.join()


def test_a_request_beside_a_run_that_hangs_is_retried(
    forced: World, listen: Listen, package_zip: bytes, script: bytes
) -> None:
    endpoint, _, neighbour = two_and(forced, listen, package_zip, script)
    before = process_of(forced)
    with in_flight(endpoint, hostile_host.HANG) as hung, in_flight(neighbour, hostile_host.SLOW) as slow:
        pass
    assert code(hung[0]) == (504, "deadline_exceeded")
    assert slow[0].json["outputs"]["output"][0][0] == hostile_host.DONE
    assert process_of(forced) != before


def test_of_two_that_ran_in_a_crash_the_one_at_fault_is_found(
    forced: World, listen: Listen, script: bytes
) -> None:
    one = forced.deploy(script)
    two = forced.deploy_routing({"members": [forced.member(script)]}, name="neighbour")
    endpoint = listen(forced.serving(one), one)
    wait_for(lambda: forced.status(two) == "active", "the other to be active")
    with in_flight(replace(endpoint, deployment_id=two), hostile_host.SLOW) as slow:
        assert code(endpoint.ask(asking(hostile_host.CRASH))) == (500, "model_crashed")
    assert slow[0].json["outputs"]["output"][0][0] == hostile_host.DONE
    assert code(endpoint.ask(asking(hostile_host.CRASH))) == (422, "input_refused")


def test_a_run_whose_host_was_killed_by_others_is_retried(
    forced: World, listen: Listen, script: bytes
) -> None:
    deployment_id = forced.deploy(script)
    endpoint = listen(forced.serving(deployment_id), deployment_id)
    with in_flight(endpoint, hostile_host.SLOW) as answers:
        os.kill(process_of(forced), signal.SIGKILL)
    assert answers[0].json["outputs"]["output"][0][0] == hostile_host.DONE


def test_a_killed_host_comes_back_and_its_neighbours_stay(
    forced: World, listen: Listen, script: bytes, settings: Settings
) -> None:
    """Two groups: with authentication, of two namespaces."""
    forced.model_hosts.close()
    guarded = settings.model_copy(update={"enable_auth": True})
    forced.model_hosts = ModelHosts(guarded, (sys.executable, "-I", hostile_host.__file__))
    one, two = (forced.deploy_routing({"members": [forced.member(script)]}, name=name) for name in "ab")
    for deployment_id, namespace in ((one, "a"), (two, "b")):
        forced.database.deployments.update_one({"_id": deployment_id}, {"$set": {"namespace": namespace}})
    endpoint = listen(forced.serving(one), one)
    wait_for(lambda: forced.status(two) == "active", "the other to be active")
    processes = {state["group"]: state["pid"] for state in forced.model_hosts.state()}
    assert set(processes) == {"namespace a", "namespace b"}
    with watched(replace(endpoint, deployment_id=two)) as failed:
        os.kill(processes["namespace a"], signal.SIGKILL)
        assert endpoint.ask(QUICK).json["outputs"] == TWICE
    assert failed == []
    after = {state["group"]: state["pid"] for state in forced.model_hosts.state()}
    assert after["namespace a"] != processes["namespace a"]
    assert after["namespace b"] == processes["namespace b"]


def test_only_several_callers_have_a_deployment_suspended(
    forced: World, listen: Listen, script: bytes
) -> None:
    deployment_id = forced.deploy(script)
    keys = [KEY]
    for number in range(1, SUSPENDING_CALLERS):
        keys.append(f"pk_{number}")
        forced.database.api_keys.insert_one(
            {
                "_id": str(uuid.uuid4()),
                "deployment_id": deployment_id,
                "sha256": hashlib.sha256(keys[-1].encode()).hexdigest(),
                "expires_at": None,
            }
        )
    endpoint = listen(forced.serving(deployment_id), deployment_id)
    for number in range(SUSPENDING_CALLERS + 1):
        assert code(endpoint.ask(asking(hostile_host.CRASH, number))) == (500, "model_crashed")
    hosted = endpoint.host.get(deployment_id)
    assert hosted is not None
    assert hosted.kills.verdict() is None, "one key alone"
    for key in keys[1:]:
        wait_for(lambda key=key: endpoint.ask(QUICK, key=key).status == 200, "the key to be known")  # type: ignore[misc]
        assert endpoint.ask(asking(hostile_host.CRASH, hash(key) % 1000), key=key).status == 500
    wait_for(lambda: forced.status(deployment_id) == "inactive", "the deployment to be suspended")
    document = forced.document(deployment_id)
    assert document["error_message"].startswith("Suspended: requests of 3 keys")
    logs = forced.database.deployment_logs
    wait_for(lambda: logs.find_one({"event": "suspended"}), "the entry in its log")
    wait_for(lambda: endpoint.host.get(deployment_id) is None, "it to be served no more")


def test_a_host_can_reach_nothing_but_its_packages(forced: World, listen: Listen, script: bytes) -> None:
    deployment_id = forced.deploy(script)
    endpoint = listen(forced.serving(deployment_id), deployment_id)
    found = {
        value: endpoint.ask(asking(value)).json["outputs"]["output"][0][0]
        for value in (
            hostile_host.SOCKET,
            hostile_host.EXEC,
            hostile_host.READ,
            hostile_host.ENVIRONMENT,
            hostile_host.PARENT,
            hostile_host.KILL,
        )
    }
    assert found == {
        hostile_host.SOCKET: errno.EPERM,
        hostile_host.EXEC: errno.EPERM,
        hostile_host.READ: errno.EACCES,
        hostile_host.ENVIRONMENT: errno.EACCES,
        hostile_host.PARENT: errno.EACCES,
        hostile_host.KILL: errno.EPERM,
    }
    (state,) = forced.model_hosts.state()
    assert state["confined"] == {"network": "isolated", "files": "isolated", "system_calls": "isolated"}
    process = psutil.Process(state["pid"])
    assert set(process.environ()) == {"HOME", "TMPDIR", "LANG"}
    assert KEY not in " ".join(process.cmdline())
    open_files = [str(each.readlink()) for each in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert {name.split(":")[0] for name in open_files} <= {"/dev/null", "pipe", "socket", "/memfd"}


@pytest.mark.parametrize(
    ("changes", "namespace", "hosts"),
    [
        ({"enable_auth": False}, "", 0),
        ({"enable_auth": True}, "", 1),
        ({"enable_auth": True}, "a", 1),
        ({"enable_auth": True, "inference_trusted_namespaces": "b, a"}, "a", 0),
    ],
)
def test_the_front_runs_models_of_bounded_cost_that_the_operator_trusts(
    world: World,
    package_zip: bytes,
    settings: Settings,
    changes: dict[str, object],
    namespace: str,
    hosts: int,
) -> None:
    world.model_hosts.close()
    world.model_hosts = ModelHosts(settings.model_copy(update=changes))
    deployment_id = world.deploy(package_zip)
    world.database.deployments.update_one({"_id": deployment_id}, {"$set": {"namespace": namespace}})
    world.serving(deployment_id)
    assert len(world.model_hosts.state()) == hosts


def test_a_host_ends_with_its_last_model(world: World, listen: Listen, loop: bytes) -> None:
    deployment_id = world.deploy(loop)
    endpoint = listen(world.serving(deployment_id), deployment_id)
    assert endpoint.ask(QUICK).json["outputs"] == TWICE
    pid = process_of(world)
    world.database.transaction(lambda session: world.stores.deployments.delete(deployment_id, session))
    wait_for(lambda: not world.model_hosts.state(), "the host to be given up")
    wait_for(lambda: not psutil.pid_exists(pid), "its process to end")
