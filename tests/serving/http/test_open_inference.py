"""An unmodified tritonclient, and a server that listens."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.serving.conftest import KEY, Endpoint, World


def auth() -> dict[str, str]:
    """Another one each time: tritonclient writes into it."""
    return {"Authorization": f"Bearer {KEY}"}


X = np.asarray([[1, 2, 3], [0.5, -1, 0]], np.float32)


@pytest.fixture
def client(served: Endpoint) -> Iterator[Any]:
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        yield client


def asked(array: np.ndarray[Any, Any], *, binary: bool) -> list[Any]:
    given = triton.InferInput("x", array.shape, "FP32")
    given.set_data_from_numpy(array, binary_data=binary)
    return [given]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_inference(client: Any, binary_in: bool, binary_out: bool, packed: str | None) -> None:
    answer = client.infer(
        "endpoint",
        asked(X, binary=binary_in),
        outputs=[triton.InferRequestedOutput("output", binary_data=binary_out)],
        headers=auth(),
        request_id="the-one",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    np.testing.assert_array_equal(answer.as_numpy("output"), X * 2)
    told = answer.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == ("endpoint", "v1.0", "the-one")


def test_all_outputs_where_none_is_named(client: Any, served: Endpoint) -> None:
    answer = client.infer(served.deployment_id, asked(X, binary=True), headers=auth())
    np.testing.assert_array_equal(answer.as_numpy("output"), X * 2)


def test_what_a_client_asks_before(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.is_model_ready("endpoint", headers=auth())
    assert client.is_model_ready("endpoint", "v1.0", headers=auth())
    assert not client.is_model_ready("another", headers=auth())
    metadata = client.get_model_metadata("endpoint", headers=auth())
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert client.get_model_config("endpoint", headers=auth())["max_batch_size"] == 16
    assert [entry["name"] for entry in client.get_model_repository_index(headers=auth())] == ["endpoint"]


def test_health_has_the_bodies_that_kserve_parses(served: Endpoint) -> None:
    """``kserve.InferenceRESTClient`` calls ``.json()`` on each and reads ``live`` or ``ready``."""
    assert served.request("GET", "/v2/health/live").json == {"live": True}
    assert served.request("GET", "/v2/health/ready").json == {"ready": True}
    for path in ("endpoint", "endpoint/versions/v1.0"):
        answer = served.request("GET", f"/v2/models/{path}/ready", headers=auth())
        assert (answer.status, answer.json) == (200, {"name": "endpoint", "ready": True})
    missing = served.request("GET", "/v2/models/another/ready", headers=auth())
    assert missing.status == 404
    assert "another" in missing.json["error"]
    served.host.ready.clear()
    answer = served.request("GET", "/v2/health/ready")
    assert (answer.status, answer.json) == (503, {"ready": False})


@pytest.mark.parametrize(
    "path",
    [
        "/health", "/health/live", "/health/ready", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready",
        "/v2/models/endpoint", "/v2/models/endpoint/ready", "/v2/models/endpoint/config", "/v2/models/stats",
    ],
)  # fmt: skip
def test_a_slash_at_the_end_makes_no_difference(served: Endpoint, path: str) -> None:
    for headers in ({}, auth()):
        plain, slashed = (served.request("GET", each, headers=headers) for each in (path, f"{path}/"))
        assert plain.status == slashed.status
        if path != "/metrics":
            assert plain.json == slashed.json


def test_statistics_count_what_ran(client: Any) -> None:
    for _ in range(3):
        client.infer("endpoint", asked(X, binary=True), headers=auth())
    (found,) = client.get_inference_statistics("endpoint", headers=auth())["model_stats"]
    assert (found["name"], found["inference_count"], found["execution_count"]) == ("endpoint", 6, 3)
    assert len(client.get_inference_statistics(headers=auth())["model_stats"]) == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda client: client.infer("endpoint", asked(X, binary=True)), "requires its key"),
        (lambda client: client.infer("another", asked(X, binary=True), headers=auth()), "another"),
        (lambda client: client.infer("endpoint", asked(X[:, :2], binary=True), headers=auth()), "shape"),
        (
            lambda client: client.infer("endpoint", asked(X, binary=True), "v9", headers=auth()),
            "there is no 'v9'",
        ),
        (lambda client: client.get_model_metadata("endpoint"), "requires its key"),
        (lambda client: client.unload_model("endpoint", headers=auth()), "deactivate or delete"),
    ],
)
def test_errors_are_told(client: Any, ask: Callable[[Any], object], message: str) -> None:
    with pytest.raises(InferenceServerException, match=message):
        ask(client)


def test_a_model_that_is_loaded_may_be_loaded(client: Any) -> None:
    client.load_model("endpoint", headers=auth())


def test_nothing_is_listed_without_a_key(client: Any, world: World) -> None:
    assert client.get_model_repository_index() == []
