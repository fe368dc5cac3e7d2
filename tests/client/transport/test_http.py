"""What is retried, what is not, and what the person is told."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from model_service.client import (
    Conflict,
    ConnectionFailed,
    InvalidArgument,
    ModelServiceClient,
    NotFound,
    ServiceFailure,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
)
from model_service.client.transport.retries import ATTEMPTS

from ..scripted import Scripted, answers, hangs_up, scripted

MODEL = json.dumps(
    {"id": "m1", "name": "digits", "version": "v1.0", "algorithm": "cnn", "status": "active", "new": 1}
).encode()
REGISTERED = json.dumps({"model_id": "m1"}).encode()


def error(code: str, **details: object) -> bytes:
    body = {"error": {"code": code, "message": "Said so.", "details": details}, "request_id": "r-1"}
    return json.dumps(body).encode()


def test_one_client_serves_many_threads(script: Scripted) -> None:
    script.steps = [answers(200, MODEL)]
    with ModelServiceClient(script.url) as client, ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda _: client.get_model("m1").name, range(200)))
    assert names == ["digits"] * 200


def test_a_get_survives_broken_connections_and_a_busy_service(script: Scripted) -> None:
    script.steps = [hangs_up, answers(502, b"<html>"), answers(503, error("busy")), answers(200, MODEL)]
    assert ModelServiceClient(script.url).get_model("m1").name == "digits"
    assert len(script.requests) == 4


@pytest.mark.parametrize("status", [429, 503])
def test_a_post_is_repeated_when_it_was_refused_before_anything_changed(
    script: Scripted, status: int
) -> None:
    script.steps = [answers(status, error("busy")), answers(201, REGISTERED)]
    assert ModelServiceClient(script.url).register_model({"name": "digits", "algorithm": "cnn"}) == "m1"
    assert script.requests[0].body == script.requests[1].body


@pytest.mark.parametrize("step", [hangs_up, answers(502)], ids=["hangs up", "502"])
def test_a_post_that_may_have_been_processed_is_not_repeated(script: Scripted, step: object) -> None:
    script.steps = [step, answers(200, MODEL)]  # type: ignore[list-item]
    with pytest.raises((ConnectionFailed, ServiceFailure)):
        ModelServiceClient(script.url).restore_model("m1")
    assert len(script.requests) == 1


@pytest.mark.parametrize("step", [hangs_up, answers(502)], ids=["hangs up", "502"])
def test_what_creates_carries_a_key_and_is_repeated_with_the_same_one(script: Scripted, step: object) -> None:
    script.steps = [step, answers(201, REGISTERED)]  # type: ignore[list-item]
    client = ModelServiceClient(script.url)
    assert client.register_model({"name": "digits"}, algorithm="cnn") == "m1"
    first, second = script.requests
    assert first.body == second.body == b'{"name": "digits", "algorithm": "cnn"}'
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    client.register_model({"name": "digits", "algorithm": "cnn"})
    assert script.requests[2].headers["idempotency-key"] != first.headers["idempotency-key"]


def test_retries_end(script: Scripted) -> None:
    script.steps = [answers(503, error("service_unavailable"))]
    with pytest.raises(ServiceUnavailable) as caught:
        ModelServiceClient(script.url).get_model("m1")
    assert caught.value.code == "service_unavailable"
    assert len(script.requests) == ATTEMPTS


def test_a_retry_after_longer_than_anyone_waits_is_an_error_at_once(script: Scripted) -> None:
    script.steps = [answers(429, error("quota_exceeded"), Retry_After="3600")]
    with pytest.raises(TooManyRequests):
        ModelServiceClient(script.url).get_model("m1")
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (404, NotFound), (409, Conflict), (500, ServiceFailure)],
)
def test_the_services_error_arrives_whole(script: Scripted, status: int, kind: type[Exception]) -> None:
    script.steps = [answers(status, error("the_code", allowed=["onnx"]))]
    with pytest.raises(kind, match=r"Said so\.") as caught:
        ModelServiceClient(script.url).get_model("m1")
    seen = caught.value
    assert (seen.code, seen.status, seen.request_id) == ("the_code", status, "r-1")  # type: ignore[attr-defined]
    assert seen.details == {"allowed": ["onnx"]}  # type: ignore[attr-defined]


def test_nothing_listening_names_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=url):
        ModelServiceClient(url).get_model("m1")


def test_a_service_that_is_just_starting_is_waited_for() -> None:
    with scripted() as script:
        script.steps = [answers(201, REGISTERED)]
        starting = threading.Timer(0.1, script.listen)
        starting.start()
        client = ModelServiceClient(script.url)
        assert client.register_model({"name": "digits", "algorithm": "cnn"}) == "m1"
        starting.join()


def test_something_else_at_the_address_is_said_to_be_no_model_service(script: Scripted) -> None:
    script.steps = [answers(200, b"<html>It works!</html>")]
    with pytest.raises(UnexpectedAnswer, match="not a Model Service"):
        ModelServiceClient(script.url).get_model("m1")


def test_a_redirect_is_not_followed_with_the_key(script: Scripted) -> None:
    script.steps = [answers(302, Location="http://elsewhere.example/")]
    with pytest.raises(UnexpectedAnswer, match=r"elsewhere\.example"):
        ModelServiceClient(script.url, api_key="secret-of-the-service").get_model("m1")
    assert len(script.requests) == 1


@pytest.mark.parametrize("model_id", ["..", ".", "", "../deployments/d1", "../deployments@d1", "m/../d/v1.0"])
def test_an_id_cannot_reach_another_route(script: Scripted, model_id: str) -> None:
    script.steps = [answers(200)]
    with pytest.raises(InvalidArgument):
        ModelServiceClient(script.url).delete_model(model_id)
    assert script.requests == []


def test_a_reference_stays_in_its_segment(script: Scripted) -> None:
    script.steps = [answers(200)]
    ModelServiceClient(script.url).delete_model("vision/digits@production")
    assert script.requests[0].path == "/api/v1/models/vision%2Fdigits%40production"


@pytest.mark.parametrize("url", ["localhost:8084", "ftp://host", "http://user:word@host", ""])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidArgument):
        ModelServiceClient(url)


def test_the_service_key_goes_to_the_service_and_not_to_an_endpoint(script: Scripted) -> None:
    script.steps = [answers(200, b'{"outputs": {"logits": [[0.5]]}}')]
    client = ModelServiceClient(script.url, api_key="secret-of-the-service")
    client.predict(f"{script.url}/v1/infer/d1", [[1.0]], api_key="pk_1")
    client.delete_model("m1")
    endpoint, service = script.requests
    assert "x-api-key" not in endpoint.headers
    assert endpoint.headers["authorization"] == "Bearer pk_1"
    assert service.headers["x-api-key"] == "secret-of-the-service"
