"""Several exports behind one endpoint, as a caller sees them; and what is done when there is too much."""

import hashlib
import http.client
import io
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from exporters.base import Arrays
from model_service.serving.common.warm_up import Cost
from model_service.serving.engine.engine import Batching, Lane
from model_service.serving.hosting.loaded_deployment import LoadedDeployment
from model_service.serving.http import inference_handler
from model_service.serving.http.adapters import PlatformAdapter
from model_service.serving.protocols import Answer
from tests.serving.conftest import KEY, Endpoint, Reply, World
from tests.waiting import wait_for

X = [[1.0, 2.0, 3.0]]
Listen = Callable[..., Endpoint]
Rewrite = Callable[[str, bytes], bytes]


def served(world: World, listen: Listen, routing: dict[str, Any], **config: Any) -> Endpoint:
    deployment_id = world.deploy_routing(routing, **config)
    return listen(world.serving(deployment_id), deployment_id)


def hosted(endpoint: Endpoint) -> LoadedDeployment:
    found = endpoint.host.get(endpoint.deployment_id)
    assert found is not None
    return found


class Held:
    """In a model's place: it answers when it is let."""

    def __init__(self, world: World, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let = threading.Event()
        self.runs = 0
        self.model = hosted(endpoint).models[0]
        self.inputs, self.outputs = self.model.inputs, self.model.outputs
        lane = Lane(world.engine, self, Batching(), Cost(1.0, 1))
        monkeypatch.setattr(self.model, "run_now", lane.run_now)
        monkeypatch.setattr(self.model, "submit", lane.submit)

    def predict(self, inputs: Arrays) -> Arrays:
        self.runs += 1
        assert self.let.wait(60)
        return self.model.loaded.runner.predict(inputs)


@pytest.mark.parametrize("announced", [1000, 5_000_000, None])
def test_a_body_that_comes_too_slowly_ends_its_connection(
    world: World, listen: Callable[..., Endpoint], package_zip: bytes, announced: int | None
) -> None:
    deployment_id = world.deploy(package_zip)
    served = listen(world.serving(deployment_id), deployment_id, max_body=10_000_000, body_grace_s=0.3)
    host, port = served.url.removeprefix("http://").split(":")
    length = f"Content-Length: {announced}" if announced else "Transfer-Encoding: chunked"
    head = f"POST /v1/infer/{deployment_id} HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\n{length}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + (b"{" if announced else b"1\r\n{\r\n"))
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert b"body_timeout" in answer


def test_traffic_is_split_and_counted_by_member(
    world: World, listen: Listen, package_zip: bytes, rewrite: Rewrite
) -> None:
    stable = world.member(package_zip, weight=50)
    canary = world.member(rewrite("README.md", b"other"), name="canary", model_version="v1.1", weight=50)
    endpoint = served(world, listen, {"members": [stable, canary], "sticky_header": "X-User"})
    answers = Counter(endpoint.ask({"inputs": X}, x_user=str(user)).json["member"] for user in range(60))
    assert set(answers) == {"v1.0", "canary"}
    again = Counter(endpoint.ask({"inputs": X}, x_user=str(user)).json["member"] for user in range(60))
    assert again == answers
    assert endpoint.ask({"inputs": X, "model": "canary"}).json["model_version"] == "v1.1"
    assert hosted(endpoint).models[1].runs.requests == 2 * answers["canary"] + 1


def test_several_models_behind_one_name(
    world: World, listen: Listen, package_zip: bytes, rewrite: Rewrite
) -> None:
    members = [
        world.member(package_zip, name="one"),
        world.member(rewrite("README.md", b"other"), name="two"),
    ]
    endpoint = served(world, listen, {"mode": "models", "members": members})
    assert endpoint.ask({"inputs": X, "model": "two"}).json["member"] == "two"
    missing = endpoint.ask({"inputs": X})
    assert (missing.status, missing.json["error"]["details"]["fields"][0]["field"]) == (422, "model")
    content = io.BytesIO()
    np.save(content, np.asarray(X, np.float32))
    path = f"/v1/infer/{endpoint.deployment_id}?model=one"
    assert (
        endpoint.ask(content.getvalue(), path=path, content_type="application/x-npy").json["member"] == "one"
    )


def test_an_ensemble_passes_tensors_on(
    world: World, listen: Listen, package_zip: bytes, rewrite: Rewrite
) -> None:
    members = [
        world.member(package_zip, name="first"),
        world.member(rewrite("README.md", b"other"), name="second", inputs={"x": "first.output"}),
    ]
    endpoint = served(world, listen, {"mode": "ensemble", "members": members})
    answer = endpoint.ask({"inputs": X}).json
    assert answer["outputs"] == {"output": [[4.0, 8.0, 12.0]]}
    assert answer["predictions"][0][0]["class"] == "c"


def test_a_shadow_is_asked_too_and_never_answers(
    world: World, listen: Listen, package_zip: bytes, rewrite: Rewrite
) -> None:
    shadow = world.member(rewrite("README.md", b"other"), name="shadow") | {"share": 1.0}
    endpoint = served(world, listen, {"members": [world.member(package_zip)], "shadow": shadow})
    for _ in range(5):
        assert endpoint.ask({"inputs": X}).json["member"] == "v1.0"
    counts = hosted(endpoint).shadow.counts  # type: ignore[union-attr]
    wait_for(lambda: counts["agreed"] == 5, "the shadow's answers")


def test_more_at_a_time_than_allowed_are_told_to_come_back(
    world: World, listen: Listen, package_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = served(world, listen, {"members": [world.member(package_zip)]}, max_concurrency=2)
    held = Held(world, endpoint, monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(endpoint.ask, {"inputs": X}) for _ in range(2)]
        wait_for(lambda: hosted(endpoint).flight.requests == 2, "both to be under way")
        refused = endpoint.ask({"inputs": X})
        held.let.set()
        assert [answer.result().status for answer in asked] == [200, 200]
    assert (refused.status, refused.json["error"]["code"]) == (429, "too_many_at_once")
    assert refused.headers["Retry-After"] == "1"
    assert endpoint.ask({"inputs": X}).status == 200


def test_a_deadline_ends_the_wait(
    world: World, listen: Listen, package_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = served(world, listen, {"members": [world.member(package_zip)]}, timeout_ms=50)
    held = Held(world, endpoint, monkeypatch)
    answer = endpoint.ask({"inputs": X})
    held.let.set()
    assert (answer.status, answer.json["error"]["code"]) == (504, "deadline_exceeded")
    assert "Retry-After" not in answer.headers


def test_who_has_gone_is_not_computed_for(
    world: World, listen: Listen, package_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = served(world, listen, {"members": [world.member(package_zip)]})
    held = Held(world, endpoint, monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(endpoint.ask, {"inputs": X}) for _ in range(2)]
        wait_for(lambda: held.runs == 2, "both lanes to be taken")
        gone = http.client.HTTPConnection(endpoint.url.removeprefix("http://"))
        headers = {"Authorization": f"Bearer {KEY}"}
        gone.request("POST", f"/v1/infer/{endpoint.deployment_id}", b'{"inputs": [[1, 2, 3]]}', headers)
        wait_for(lambda: hosted(endpoint).flight.requests == 3, "the third to wait")
        gone.close()
        wait_for(lambda: hosted(endpoint).flight.requests == 2, "it to be given up")
        held.let.set()
        assert [answer.result().status for answer in running] == [200, 200]
    assert held.runs == 2


def test_a_body_that_does_not_come_holds_nobody_up(world: World, listen: Listen, package_zip: bytes) -> None:
    routing = {"members": [world.member(package_zip)]}
    endpoint = served(world, listen, routing, timeout_ms=300, max_concurrency=1)
    host, port = endpoint.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/infer/{endpoint.deployment_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(3)]
    for connection in slow:
        connection.sendall(head.encode())
    for _ in range(10):
        assert endpoint.ask({"inputs": X}).status == 200
    for connection in slow:
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        connection.close()


def test_a_revision_that_fails_is_taken_back(
    world: World, listen: Listen, package_zip: bytes, rewrite: Rewrite, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = served(world, listen, {"members": [world.member(package_zip)]})
    guard = {"max_error_rate": 0.2, "max_p95_ms": None, "min_requests": 5, "window_s": 60}
    newer = world.member(rewrite("README.md", b"other"), name="v1.1", model_version="v1.1")
    world.revise(endpoint.deployment_id, {"members": [newer], "rollback": guard})
    wait_for(lambda: world.document(endpoint.deployment_id)["live_revision"] == 2, "the update")

    def broken(inputs: object) -> object:
        raise RuntimeError("it fails")

    monkeypatch.setattr(hosted(endpoint).models[0], "run_now", broken)
    for _ in range(5):
        assert endpoint.ask({"inputs": X}).status == 500
    wait_for(lambda: hosted(endpoint).revision == 3, "the revision before to come back")
    assert endpoint.ask({"inputs": X}).json["model_version"] == "v1.0"
    events = [event["event_type"] for event in world.database.deployment_history.find().sort("_id", 1)]
    assert "rolled_back" in events


def test_bodies_share_a_bounded_memory(world: World, listen: Listen, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    endpoint = listen(world.serving(deployment_id), deployment_id, max_body=1000)
    host, port = endpoint.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/infer/{deployment_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    slow: list[socket.socket] = []

    def one_more() -> Reply | None:
        slow.append(socket.create_connection((host, int(port)), timeout=30))
        slow[-1].sendall(head.encode())
        answer = endpoint.ask({"inputs": X})
        return answer if answer.status != 200 else None

    refused = wait_for(one_more, "the memory to be full")
    assert refused is not None
    assert (refused.status, refused.json["error"]["code"]) == (503, "service_unavailable")
    assert len(slow) >= 4
    for connection in slow:
        connection.close()
    wait_for(lambda: endpoint.ask({"inputs": X}).status == 200, "them to be gone")


def test_large_answers_are_not_written_on_the_event_loop(
    world: World, listen: Listen, package_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = served(world, listen, {"members": [world.member(package_zip)]})
    written: list[str] = []
    write = PlatformAdapter.write

    def noted(*arguments: Any) -> Answer:
        written.append(threading.current_thread().name)
        return write(*arguments)

    monkeypatch.setattr(PlatformAdapter, "write", noted)
    monkeypatch.setattr(inference_handler, "_LARGE_BYTES", 300)
    assert endpoint.ask(b'{"inputs":[[1,2,3]]}').status == 200
    content = b'{"inputs":[' + b",".join([b"[1,2,3]"] * 30) + b"]}"
    assert len(content) < 300 < 30 * 3 * np.float32().nbytes
    assert endpoint.ask(content).status == 200
    assert [name.startswith("asyncio") for name in written] == [False, True]


def test_a_deployment_leaves_memory_to_the_others(world: World, listen: Listen, package_zip: bytes) -> None:
    flooded, other = world.deploy(package_zip), world.deploy(package_zip)
    host = world.serving(flooded)
    wait_for(lambda: host.get(other), "the other one to be loaded")
    endpoint = listen(host, flooded, max_body=1000)
    address = endpoint.url.removeprefix("http://").split(":")
    head = f"POST /v1/infer/{flooded} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    announced = [socket.create_connection((address[0], int(address[1])), timeout=30) for _ in range(20)]
    for connection in announced:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    wait_for(lambda: endpoint.ask({"inputs": X}).status == 503, "the memory to be full")
    for _ in range(5):
        assert endpoint.ask({"inputs": X}, path=f"/v1/infer/{other}").status == 200
    for connection in announced:
        connection.close()


def test_a_body_without_a_length_takes_what_has_come(
    world: World, listen: Listen, package_zip: bytes
) -> None:
    deployment_id = world.deploy(package_zip)
    endpoint = listen(world.serving(deployment_id), deployment_id, max_body=1000)
    address = endpoint.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/infer/{deployment_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n16\r\n"
    )
    begun = [socket.create_connection((address[0], int(address[1])), timeout=30) for _ in range(20)]
    for connection in begun:
        connection.sendall(head.encode())
    assert endpoint.ask({"inputs": X}).status == 200
    for connection in begun:
        connection.sendall(b'{"inputs": [[1, 2, 3]]\r\n1\r\n}\r\n0\r\n\r\n')
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.close()


def test_what_a_body_unpacks_to_is_held_too(
    world: World, listen: Listen, package_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = world.deploy(package_zip)
    endpoint = listen(world.serving(deployment_id), deployment_id, max_body=100_000)
    held = Held(world, endpoint, monkeypatch)
    packed = io.BytesIO()
    np.savez_compressed(packed, x=np.zeros((8000, 3), np.float32))  # 96 kB of some hundred bytes
    body = packed.getvalue()
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(endpoint.ask, body, content_type="application/x-npz") for _ in range(10)]
        wait_for(lambda: sum(answer.done() for answer in asked) == 6, "the others to be refused")
        assert 4 * 96_000 <= hosted(endpoint).flight.held_bytes < 5 * 96_000
        held.let.set()
        assert Counter(answer.result().status for answer in asked) == {200: 4, 503: 6}
    wait_for(lambda: hosted(endpoint).flight.held_bytes == 0, "all of it to be given back")


def test_nobody_takes_a_name_from_another(world: World, listen: Listen, package_zip: bytes) -> None:
    first = served(world, listen, {"members": [world.member(package_zip)]})
    second = world.deploy(package_zip)
    world.database.api_keys.update_many(
        {"deployment_id": second}, {"$set": {"sha256": hashlib.sha256(b"pk_another").hexdigest()}}
    )
    wait_for(lambda: len(first.host.find("endpoint")) == 2, "both to be served")
    wait_for(
        lambda: first.ask({"inputs": X}, key="pk_another", path=f"/v1/infer/{second}").status == 200,
        "its key",
    )
    by_name = [first.ask({"inputs": X}, key=key, path="/v1/infer/endpoint") for key in (KEY, "pk_another")]
    assert [answer.json["deployment_id"] for answer in by_name] == [first.deployment_id, second]
    assert first.ask({"inputs": X}, key="pk_third", path="/v1/infer/endpoint").status == 401
