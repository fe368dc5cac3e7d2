"""One trace id through the API, the worker, the converter, the inference server and a model host."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from model_service.client import ModelServiceClient
from tests.e2e.conftest import Stack, running, wait_for
from tests.factories import new_model, scaling_program
from tests.otlp import Collector, Received, collecting

CALLER = "b7ad6b7169203331"
# Of the requests of this module.
UPLOAD, LARGE, EXPORT, INFERENCE = (f"{number:032x}" for number in range(1, 5))
SERVER, CONSUMER = 2, 5
STEPS = ["load", "reference", "convert", "verify", "measure", "package"]


@dataclass(frozen=True)
class Traced:
    stack: Stack
    collector: Collector
    job: dict[str, Any]
    deployment_id: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        found = (self.stack.data_dir / "up.log").read_text().splitlines()
        return [json.loads(line) for line in found if line.startswith("{")]

    def spans(self, trace_id: str, last: str) -> list[Received]:
        """The spans of a trace, once ``last`` has arrived, in the order in which they began."""
        wait_for(lambda: any(span.name == last for span in self.collector.of(trace_id)), f"the span {last}")
        return sorted(self.collector.of(trace_id), key=lambda span: span.began_ns)


def send(trace_id: str, url: str, body: bytes, **headers: str) -> dict[str, Any]:
    traced = {"traceparent": f"00-{trace_id}-{CALLER}-01", **headers}
    request = urllib.request.Request(url, data=body, headers=traced, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with collecting() as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "API_WORKERS": "2",
        }
        with running(tmp_path_factory.mktemp("traces"), **settings) as stack:
            yield use(stack, collector)


def use(stack: Stack, collector: Collector) -> Traced:
    api, inference = stack.report["api"], stack.report["inference"]
    with ModelServiceClient(api) as client:
        model_id = client.register_model(new_model())
        url = f"{api}/api/v1/models/{model_id}/upload"
        send(UPLOAD, url, scaling_program(2.0), **{"X-Filename": "scale.pt2"})
        other = client.register_model(new_model(name="large"))
        send(LARGE, f"{api}/api/v1/models/{other}/upload", b"x" * 300_000, **{"X-Filename": "large.bin"})
        # Not of the formats whose cost is bounded: a model host runs it.
        body = json.dumps({"model_id": model_id, "export_format": "torchscript"}).encode()
        job = send(EXPORT, f"{api}/api/v1/export/jobs", body, **{"Content-Type": "application/json"})
        client.wait_for_export(client.get_export(job["id"]))
        deployment = client.wait_for_deployment(client.create_deployment(job["id"], "traced"))
        key = {"Authorization": f"Bearer {deployment.api_key}", "Content-Type": "application/json"}
        body = json.dumps({"inputs": [[1.0, 2.0, 3.0]]}).encode()
        answer = send(INFERENCE, f"{inference}/v1/infer/{deployment.id}", body, **key)
        assert answer["outputs"] == {"output": [[2.0, 4.0, 6.0]]}
    return Traced(stack, collector, job, deployment.id)


def tree(spans: list[Received]) -> list[tuple[str, str, str]]:
    """Service, name and the parent's name of each span; the caller's span is ``caller``."""
    names = {span.span_id: span.name for span in spans} | {CALLER: "caller"}
    return [(span.service.removeprefix("model-service-"), span.name, names[span.parent_id]) for span in spans]


def test_the_lines_of_the_api_the_worker_and_the_converter_have_one_trace_id(traced: Traced) -> None:
    lines = [line for line in traced.lines if line.get("trace_id") == EXPORT]
    (request,) = [line for line in lines if line["event"] == "api_request"]
    assert (request["process"], request["route"]) == ("api", "/api/v1/export/jobs")
    assert request["request_id"]
    of_job = [line for line in lines if line["process"] == "worker"]
    assert {line["job_id"] for line in of_job} == {traced.job["id"]}
    events = [line["event"] for line in of_job]
    assert (events[0], events[-1]) == ("export.started", "export.completed")
    steps = [line for line in of_job if line["event"] == "converter.step"]
    assert [line["step"] for line in steps] == STEPS
    (converter,) = {line["converter_pid"] for line in steps}
    assert converter not in traced.stack.report["pids"].values()


def test_an_export_is_one_trace_from_the_request_to_the_steps_of_the_converter(traced: Traced) -> None:
    spans = traced.spans(EXPORT, "export")
    request, job = "POST /api/v1/export/jobs", "export"
    assert tree(spans) == [
        ("api", request, "caller"),
        ("worker", job, request),
        ("worker", "fetch", job),
        ("worker", "gridfs read", "fetch"),
        ("worker", "converter", job),
        *(("converter", step, "converter") for step in STEPS),
        ("worker", "store", job),
        ("worker", "gridfs publish", "store"),
    ]
    found = {span.name: span for span in spans}
    assert (found[request].kind, found[job].kind) == (SERVER, CONSUMER)
    assert {
        "http.request.method": "POST",
        "http.route": "/api/v1/export/jobs",
        "http.response.status_code": 202,
        "url.scheme": "http",
        "url.path": "/api/v1/export/jobs",
    }.items() <= found[request].attributes.items()
    assert found[job].attributes == {
        "model_service.job.id": traced.job["id"],
        "model_service.export.format": "torchscript",
        "model_service.export.attempt": 1,
        "model_service.export.outcome": "completed",
    }
    converter = found["converter"]
    for step in STEPS:
        assert converter.began_ns <= found[step].began_ns <= found[step].ended_ns <= converter.ended_ns
    assert not any(span.failed for span in spans)


def test_an_inference_has_the_run_in_the_model_host(traced: Traced) -> None:
    request = "POST /v1/infer/{deployment_id}"
    spans = traced.spans(INFERENCE, request)
    assert tree(spans) == [
        ("inference", request, "caller"),
        ("inference", "inference", request),
        ("model-host", "model run", "inference"),
    ]
    _, inference, run = spans
    assert inference.attributes["model_service.deployment.id"] == traced.deployment_id
    assert inference.began_ns <= run.began_ns <= run.ended_ns <= inference.ended_ns
    assert run.attributes["model_service.batch.requests"] == 1
    assert run.attributes["process.pid"] not in traced.stack.report["pids"].values()


def test_an_upload_and_its_scan_are_one_trace(traced: Traced) -> None:
    request = "POST /api/v1/models/<model_id>/upload"
    assert tree(traced.spans(UPLOAD, "scan")) == [
        ("api", request, "caller"),
        ("api", "gridfs publish", request),
        ("worker", "scan", "gridfs publish"),
        ("worker", "gridfs read", "scan"),
        ("worker", "scanner", "scan"),
    ]
    spans = traced.spans(LARGE, "scan")
    (written,) = [span for span in spans if span.name == "gridfs write"]
    assert (written.service, written.attributes["model_service.file.size"]) == ("model-service-api", 300_000)


def test_probes_are_not_recorded_and_a_malformed_header_begins_a_trace(traced: Traced) -> None:
    url = f"{traced.stack.report['api']}/api/v1/models"
    request = urllib.request.Request(
        url, headers={"traceparent": f"00-{EXPORT}-{CALLER}", "X-Request-ID": "m"}
    )
    with urllib.request.urlopen(request, timeout=60):
        pass

    def found() -> list[Received]:
        header = "http.response.header.x-request-id"
        return [span for span in list(traced.collector.spans) if span.attributes.get(header) == ["m"]]

    (span,) = wait_for(found, "the span")
    assert (span.name, span.parent_id) == ("GET /api/v1/models", "")
    assert span.trace_id != EXPORT
    assert not [span for span in traced.collector.spans if "/health" in span.name]
