import socket

from flask import Flask
from flask.testing import FlaskClient

from model_service.app import create_app
from model_service.config import Settings
from tests.factories import new_model


def test_health_says_what_works(http: FlaskClient, model_id: str) -> None:
    health = http.get("/health").json
    assert health["status"] == "healthy"
    assert health["service"] == "model-service"
    assert health["mongodb_connected"] is health["gridfs_available"] is health["redis_connected"] is True
    assert health["total_models"] == 1


def test_lost_redis_is_told_and_is_no_illness(settings: Settings) -> None:
    lost = settings.model_validate(settings.model_dump() | {"redis_url": "redis://127.0.0.1:1/0"})
    answer = create_app(lost).test_client().get("/health")
    assert (answer.status_code, answer.json["redis_connected"]) == (200, False)


def test_metrics_count_requests_by_route_not_by_path(http: FlaskClient, model_id: str) -> None:
    http.get(f"/api/v1/models/{model_id}")
    exposed = http.get("/metrics").text
    assert 'endpoint="/api/v1/models/<model_id>",method="GET",status="200"' in exposed
    assert model_id not in exposed


def test_invented_methods_make_no_new_series(http: FlaskClient) -> None:
    for number in range(5):
        http.open("/health", method=f"INVENTED{number}")
    exposed = http.get("/metrics").text
    assert "INVENTED" not in exposed
    assert 'method="other"' in exposed


def test_a_silent_redis_holds_nothing_up(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        mute = settings.model_validate(settings.model_dump() | {"redis_url": url})
        http = create_app(mute).test_client()
        assert http.get("/health").json["redis_connected"] is False
        model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
        http.post(f"/api/v1/models/{model_id}/upload", data=b"x")
        job = http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": "onnx"})
        assert job.status_code == 202


def test_the_openapi_document_has_every_route(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").json
    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    served = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/") or rule.rule in ("/health", "/metrics")
    }
    assert documented == served


def test_the_document_says_how_files_go_in_and_out(app: Flask) -> None:
    paths = app.test_client().get("/openapi.json").json["paths"]
    upload = paths["/api/v1/models/{model_id}/upload"]["post"]["requestBody"]["content"]
    assert set(upload) == {"application/octet-stream", "multipart/form-data"}
    for path in ("/api/v1/models/{model_id}/download", "/api/v1/export/jobs/{job_id}/download"):
        assert "application/octet-stream" in paths[path]["get"]["responses"]["200"]["content"]


def test_there_is_a_page_to_read_it(http: FlaskClient) -> None:
    page = http.get("/docs/scalar")
    assert page.status_code == 200
    assert "text/html" in page.content_type
