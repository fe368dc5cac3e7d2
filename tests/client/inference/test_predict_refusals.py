"""Predictions by both clients: what is tried again, which key goes along, what a refusal becomes."""

import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from model_service.client import (
    ConnectionFailed,
    Deployment,
    InvalidArgument,
    InvalidRequest,
    ModelServiceClient,
    NotFound,
    ServiceFailure,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
)

from ..scripted import Request, Scripted, Step, answers, hangs_up, scripted
from ..wire import ONE, Predict, X, echoes, endpoint, posts, says

PREDICTED = answers(200, b'{"predictions": [[{"class": "cat", "confidence": 0.9}]]}')


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (404, NotFound), (400, InvalidRequest), (503, ServiceUnavailable)],
)
@pytest.mark.parametrize("inputs", [X, [[1.0]]], ids=["binary", "json"])
def test_both_forms_of_errors_are_the_clients(
    script: Scripted, predict: Predict, status: int, kind: type[Exception], inputs: Any
) -> None:
    platform_error = {"error": {"code": "no_such", "message": "Said so.", "details": {}}, "request_id": "r-1"}
    told = (
        answers(status, json.dumps(platform_error).encode()) if inputs is not X else says(status, "Said so.")
    )
    script.steps = [told]
    with pytest.raises(kind, match=r"Said so\.") as caught:
        predict(endpoint(script), inputs)
    assert caught.value.status == status  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [429, 503])
def test_what_says_when_to_come_back_is_asked_again(script: Scripted, predict: Predict, status: int) -> None:
    script.steps = [echoes(ONE), says(status, "busy", Retry_After="0"), echoes(ONE)]
    assert predict(endpoint(script), X).outputs["echo_x"].tolist() == X.tolist()
    first, second = posts(script)
    assert first.body == second.body


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (says(503, "deadline exceeded"), ServiceUnavailable),
        (says(429, "the month is over", Retry_After="20"), TooManyRequests),
        (hangs_up, ConnectionFailed),
    ],
    ids=["no word when", "later than anybody waits", "maybe computed"],
)
def test_what_may_not_be_repeated_is_not(
    script: Scripted, predict: Predict, step: Step, kind: type[Exception]
) -> None:
    script.steps = [echoes(ONE), step]
    with pytest.raises(kind):
        predict(endpoint(script), X, timeout_s=15)
    assert len(posts(script)) == 1


def test_a_server_that_is_just_starting_is_waited_for(predict: Predict) -> None:
    with scripted() as script:
        script.steps = [echoes(ONE)]
        starting = threading.Timer(0.1, script.listen)
        starting.start()
        assert predict(endpoint(script), X).outputs["echo_x"].tolist() == X.tolist()
        starting.join()


def test_nothing_there_names_the_address(predict: Predict) -> None:
    with pytest.raises(ConnectionFailed, match=r"Cannot connect to http://127\.0\.0\.1:9"):
        predict("http://127.0.0.1:9/v1/infer/d1", X, timeout_s=0.5)


def test_silence_ends_with_the_time_that_was_given(script: Scripted, predict: Predict) -> None:
    over = threading.Event()

    def silent(handler: BaseHTTPRequestHandler, request: Request) -> None:
        over.wait(30)
        handler.close_connection = True

    script.steps = [silent]
    try:
        with pytest.raises(ConnectionFailed, match="did not respond in time"):
            predict(endpoint(script), [[1.0]], timeout_s=0.3)
    finally:
        over.set()
    assert len(script.requests) == 1


def test_what_a_proxy_lost_is_asked_again_where_nothing_was_computed(
    script: Scripted, predict: Predict
) -> None:
    script.steps = [answers(502, b"<html>Bad Gateway</html>"), echoes(ONE), answers(502, b"")]
    with pytest.raises(ServiceFailure):
        predict(endpoint(script), X)
    assert [request.method for request in script.requests] == ["GET", "GET", "POST"]


def test_an_option_that_does_not_exist_is_no_option(script: Scripted, predict: Predict) -> None:
    with pytest.raises(TypeError, match="treshold"):
        predict(endpoint(script), X, treshold=0.5)


def test_a_redirect_is_not_followed_with_the_key(script: Scripted, predict: Predict) -> None:
    script.steps = [answers(307, Location="http://elsewhere.example/")]
    with pytest.raises(UnexpectedAnswer, match=r"elsewhere\.example"):
        predict(endpoint(script), X, api_key="pk_1")
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        answers(200, b"<html>It works!</html>"),
        answers(200, b"{}"),
        answers(200, b'{"outputs": [{"name": "y"}]}', Inference_Header_Content_Length="28"),
        answers(
            200,
            b'{"outputs": [{"name":"y","datatype":"FP32","shape":[9],"parameters":{"binary_data_size":36}}]}',
            Inference_Header_Content_Length="94",
        ),
    ],
    ids=["page", "empty", "no data", "cut"],
)
def test_what_is_no_prediction_is_said_to_be_none(script: Scripted, predict: Predict, answer: Step) -> None:
    script.steps = [echoes(ONE), answer]
    with pytest.raises(UnexpectedAnswer):
        predict(endpoint(script), X)


def test_the_key_is_the_one_given_then_the_deployments_then_the_environments(
    script: Scripted, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.steps = [PREDICTED]
    told = {"id": "d1", "status": "active", "endpoint_url": endpoint(script), "api_key": "pk_carried"}
    deployment = Deployment.from_json(told)
    monkeypatch.setenv("MODEL_SERVICE_DEPLOYMENT_KEY", "pk_environment")
    predict(deployment, [[1.0]], api_key="pk_given")
    predict(deployment, [[1.0]])
    predict(endpoint(script), [[1.0]])
    predict(endpoint(script), [[1.0]], headers={"X-User": "u1"})
    keys = [request.headers["authorization"] for request in script.requests]
    assert keys == [f"Bearer pk_{whose}" for whose in ("given", "carried", "environment", "environment")]
    assert script.requests[3].headers["x-user"] == "u1"


def test_connections_are_used_again(script: Scripted, predict: Predict) -> None:
    script.steps = [echoes(ONE)]
    for _ in range(20):
        predict(endpoint(script), X)
    assert len({request.connection for request in script.requests}) == 1


def test_an_id_is_looked_up_once(script: Scripted) -> None:
    told = {"id": "d1", "status": "active", "endpoint_url": endpoint(script)}
    script.steps = [answers(200, json.dumps(told).encode()), echoes(ONE)]
    client = ModelServiceClient(script.url, api_key="secret-of-the-service")
    for _ in range(2):
        client.predict("d1", X, api_key="pk_1")
    assert [request.path for request in script.requests] == [
        "/api/v1/deployments/d1",
        "/v2/models/d1",
        "/v2/models/d1/infer",
        "/v2/models/d1/infer",
    ]
    assert all("x-api-key" not in request.headers for request in script.requests[1:])


def test_a_deployment_without_an_endpoint_says_its_status() -> None:
    waiting = Deployment.from_json({"id": "d1", "status": "pending"})
    with pytest.raises(InvalidArgument, match="d1 is pending"):
        ModelServiceClient("http://127.0.0.1:9").predict(waiting, X)
