"""What an endpoint answers, right and wrong requests."""

import http.client
import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from model_service.serving.http import app
from model_service.serving.http.app import _target_of, target_of
from model_service.storage.deployments.usage import UsageCounts
from tests.exposition import samples
from tests.serving.conftest import KEY, Endpoint, World
from tests.waiting import wait_for

X = [[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]
TWICE = [[2.0, 4.0, 6.0], [1.0, -2.0, 0.0]]


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("inputs", [X, {"x": X}])
def test_json_in_json_out(served: Endpoint, inputs: Any) -> None:
    answer = served.ask({"inputs": inputs})
    assert answer.status == 200
    assert answer.json["outputs"] == {"output": TWICE}
    assert answer.json["model_version"] == "v1.0"
    assert answer.json["deployment_id"] == served.deployment_id
    assert answer.json["latency_ms"] > 0


def test_the_declared_postprocessing_names_classes(served: Endpoint) -> None:
    best = served.ask({"inputs": X}).json["predictions"]
    assert [[entry["class"] for entry in row] for row in best] == [["c", "b"], ["a", "c"]]
    assert best[0][0]["confidence"] == pytest.approx(np.exp(6) / np.exp([2, 4, 6]).sum())


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_in(served: Endpoint, order: Any) -> None:
    array = np.asarray(X, dtype=np.float32, order=order)
    assert served.ask(npy(array), content_type="application/x-npy").json["outputs"] == {"output": TWICE}


def test_integers_are_numbers_too(served: Endpoint) -> None:
    assert served.ask({"inputs": [[1, 2, 3]]}).json["outputs"] == {"output": [[2.0, 4.0, 6.0]]}


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"y": X}, "inputs.y"),
        ({}, "inputs.x"),
        ([[1, 2]], "inputs.x"),
        ([1, 2, 3], "inputs.x"),
        ([[[1, 2, 3]]], "inputs.x"),
        ([[1, 2, "a"]], "inputs.x"),
        ([[1, 2], [3]], "inputs.x"),
        ([[None, 1, 2]], "inputs.x"),
        ([[float("nan"), 1, 2]], "inputs.x"),
        ([], "inputs.x"),
        (None, "inputs.x"),
        ("text", "inputs.x"),
    ],
)
def test_a_wrong_input_is_named(served: Endpoint, inputs: Any, field: str) -> None:
    answer = served.ask({"inputs": inputs})
    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_field")
    assert [found["field"] for found in answer.json["error"]["details"]["fields"]] == [field]


GOOD_NPY = npy(np.ones((2, 3), dtype=np.float32))
HEADER_GARBAGE = [
    "{(",
    "'''",
    "((((",
    "-" * 4000 + "1",
    "[" * 3000,
    "{'descr': '<f4'}",
    "\x00",
    "9" * 4000,
    "f''",
]


def npy_header(text: str) -> bytes:
    """A .npy file of format 1.0 with this header, and no data."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{half", "application/json"),
        (b"[" * 50_000, "application/json"),
        (b'{"inputs": [[Infinity, NaN, 2]]}', "application/json"),
        (b"", "application/x-npy"),
        (GOOD_NPY[:-1], "application/x-npy"),
        (GOOD_NPY + b"more", "application/x-npy"),
        (GOOD_NPY[:20], "application/x-npy"),
        (GOOD_NPY.replace(b"(2, 3)", b"(2,1000000000000)"), "application/x-npy"),
        (GOOD_NPY.replace(b"'<f4'", b"'|O8'"), "application/x-npy"),
        (npy(np.asarray([{"a": 1}]), allow_pickle=True), "application/x-npy"),
        (GOOD_NPY.replace(b"NUMPY\x01", b"NUMPY\x09"), "application/x-npy"),
        *((npy_header(text), "application/x-npy") for text in HEADER_GARBAGE),
    ],
)
def test_a_body_that_is_not_what_it_says(served: Endpoint, body: bytes, content_type: str) -> None:
    answer = served.ask(body, content_type=content_type)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_json"), answer.data
    assert served.ask({"inputs": X}).json["outputs"] == {"output": TWICE}


def test_json_without_inputs(served: Endpoint) -> None:
    assert served.ask({}).json["error"]["details"]["fields"][0]["field"] == "inputs"


def test_a_body_past_the_limit(served: Endpoint) -> None:
    answer = served.ask(b" " * 100_001)
    assert (answer.status, answer.json["error"]["code"]) == (413, "file_too_large")
    assert "MAX_INFERENCE_BODY" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ключ"]
)
def test_only_the_key_gets_in(served: Endpoint, header: str) -> None:
    headers = {"Authorization": header.encode().decode("latin-1")}
    answer = served.request("POST", f"/v1/infer/{served.deployment_id}", json={"inputs": X}, headers=headers)
    assert (answer.status, answer.json["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("key", "status"), [("pk_none", 401), (KEY, 413)])
def test_who_sends_a_lot_reads_why_it_is_refused(
    served: Endpoint, chunked: bool, key: str, status: int
) -> None:
    # urllib3 would forgive a connection that is reset; http.client does not.
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=30)
    pieces = (b"0" * 65_536 for _ in range(128))
    path, headers = f"/v1/infer/{served.deployment_id}", {"Authorization": f"Bearer {key}"}
    body = pieces if chunked else b"".join(pieces)
    connection.request("POST", path, body, headers, encode_chunked=chunked)
    assert connection.getresponse().status == status
    connection.close()


def test_a_key_may_come_in_its_own_header(served: Endpoint) -> None:
    path, headers = f"/v1/infer/{served.deployment_id}", {"X-API-Key": KEY}
    assert served.request("POST", path, json={"inputs": X}, headers=headers).status == 200


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a-1.b_C", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("<script>", False),
        ("", False),
    ],
)
def test_every_answer_has_its_request_id(served: Endpoint, sent: str, kept: bool) -> None:
    for path in (f"/v1/infer/{served.deployment_id}", "/v1/infer/unknown", "/health", "/nowhere"):
        answer = served.request("POST", path, body=b"{}", headers={"X-Request-ID": sent})
        request_id = answer.headers["X-Request-ID"]
        assert request_id
        assert (request_id == sent) is kept
        if answer.status >= 400:
            assert answer.json["request_id"] == request_id


def inferences(served: Endpoint, status: int) -> float:
    """How many answers with this status the metrics tell of."""
    text = served.request("GET", "/metrics").data.decode()
    return samples(text).get(f'model_service_inference_requests_total{{status="{status}"}}', 0)


def test_a_fault_of_ours_is_logged_and_counted(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = inferences(served, 500)
    hosted = served.host.get(served.deployment_id)
    assert hosted is not None

    def broken(inputs: object) -> object:
        raise RuntimeError("the runtime's own failure")

    monkeypatch.setattr(hosted.models[0], "run_now", broken)
    with capture_logs() as lines:
        answer = served.ask({"inputs": X}, x_request_id="the-one")
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
    assert [(line["event"], line["request_id"]) for line in lines] == [("inference.failed", "the-one")]
    assert inferences(served, 500) == counted + 1


def test_other_paths_and_methods(served: Endpoint) -> None:
    wrong = served.request("GET", f"/v1/infer/{served.deployment_id}")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert served.request("POST", "/v1/infer/00000000-0000-4000-8000-000000000000").status == 404
    assert served.request("GET", "/../etc/passwd").status == 404
    assert served.request("GET", "/health").json["deployments"] == 1
    assert b"model_service_inference_requests_total" in served.request("GET", "/metrics").data


def test_long_paths_are_not_kept() -> None:
    def kept() -> int:
        return _target_of.cache_info().currsize

    before = kept()
    assert target_of(f"/v2/models/{'m' * 255}/versions/{'v' * 255}/infer").verb == "infer"
    assert kept() == before + 1
    for number in range(10):
        assert target_of(f"/v1/infer/{number}/{'x' * 60_000}").verb == ""
    assert kept() == before + 1


def test_a_deployment_is_found_by_its_name_too(served: Endpoint) -> None:
    assert served.ask({"inputs": X}, path="/v1/infer/endpoint").json["outputs"] == {"output": TWICE}


def test_a_deployment_that_is_new_is_waited_for(
    world: World, listen: Callable[..., Endpoint], package_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 60.0)
    host = world.host()
    wait_for(host.ready.is_set, "it to find nothing")
    endpoint = listen(host, world.deploy(package_zip))
    assert endpoint.ask({"inputs": X}).status == 200
    assert endpoint.ask({"inputs": X}, path="/v1/infer/another").status == 404


def test_usage_is_counted_and_written(served: Endpoint, world: World) -> None:
    for _ in range(3):
        served.ask({"inputs": X})
    served.ask({"inputs": "wrong"})
    world.usage.flush(UsageCounts(world.database))
    world.usage.flush(UsageCounts(world.database))
    deployment = world.document(served.deployment_id)
    assert (deployment["request_count"], deployment["error_count"]) == (4, 0)
    assert deployment["total_inference_time_ms"] > 0
    assert deployment["last_request_at"] is not None
    (row,) = world.database.usage.find()
    assert (row["requests"], row["client_errors"], row["member"]) == (4, 1, "v1.0")
    assert row["bytes_in"] > 0
    assert row["bytes_out"] > 0


@pytest.mark.parametrize(
    ("query", "field"),
    [("model=%00", "model"), ("%00=1", r"\x00"), ("top_k=%ff", "top_k"), ("a=1&b=%ed%a0%80", "b")],
)
def test_a_query_that_is_no_text_is_refused_by_its_name(served: Endpoint, query: str, field: str) -> None:
    answer = served.ask({"inputs": X}, path=f"/v1/infer/{served.deployment_id}?{query}")
    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_field")
    assert answer.json["error"]["details"]["fields"][0]["field"] == field


@pytest.mark.parametrize("name", ["%00", "a%00b", "%ff", "%ed%a0%80", "%F0%9F%98%80", "$ne", "x" * 300])
@pytest.mark.parametrize("path", ["/v1/infer/{}", "/v2/models/{}/infer", "/v2/models/{}", "/{}"])
def test_a_path_that_names_nothing_is_the_fault_of_the_request(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 0.0)
    answer = served.ask({"inputs": X}, path=path.format(name))
    assert answer.status in ({422} if "%00" in name else {404, 405})  # one of the paths is for GET alone


@pytest.mark.parametrize("odd", ["\\u0000", "\\ud800", "9" * 400, "$ne"])
@pytest.mark.parametrize(
    "form",
    [
        '{"inputs": {"x": [[1, 2, 3]]}, "model": "%s"}',
        '{"inputs": {"%s": [[1, 2, 3]]}}',
        '{"inputs": {"x": ["%s"]}}',
        '{"inputs": {"x": [[1, 2, 3]]}, "top_k": "%s"}',
        '{"%s": 1}',
    ],
)
def test_no_text_in_a_body_is_a_fault_of_the_service(served: Endpoint, form: str, odd: str) -> None:
    assert served.ask((form % odd).encode()).status in (400, 404, 422)


@pytest.mark.parametrize("odd", ["\\u0000", "\\ud800", "9" * 400, "$ne"])
@pytest.mark.parametrize("field", ["name", "datatype", "id"])
def test_no_text_of_the_open_protocol_is_a_fault_of_the_service(
    served: Endpoint, field: str, odd: str
) -> None:
    tensor = '{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3], "parameters": {}}'
    body = f'{{"id": "1", "inputs": [{tensor}]}}'
    body = body.replace(
        {"name": '"x"', "datatype": "FP32", "id": '"1"'}[field], odd if field == "datatype" else f'"{odd}"'
    )
    assert served.ask(body.encode(), path="/v2/models/endpoint/infer").status in (200, 400, 422)
