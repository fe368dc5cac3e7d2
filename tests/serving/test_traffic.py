"""Several exports behind one endpoint, as a caller sees them; and what is done when there is too much."""

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
from model_service.serving.engine import Batching, Cost, Lane
from model_service.serving.hosted import Hosted
from tests.serving.conftest import KEY, Endpoint, Reply, World, wait_for

X = [[1.0, 2.0, 3.0]]
Listen = Callable[..., Endpoint]
Rewrite = Callable[[str, bytes], bytes]


def served(world: World, listen: Listen, routing: dict[str, Any], **config: Any) -> Endpoint:
    deployment_id = world.deploy_routing(routing, **config)
    return listen(world.serving(deployment_id), deployment_id)


def hosted(endpoint: Endpoint) -> Hosted:
    found = endpoint.host.find(endpoint.deployment_id)
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
        wait_for(lambda: world.engine.waiting == 1, "the third to wait")
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
    assert len(slow) >= 8
    for connection in slow:
        connection.close()
    wait_for(lambda: endpoint.ask({"inputs": X}).status == 200, "them to be gone")
