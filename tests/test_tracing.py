"""The header ``traceparent``, and spans that a collector gets or does not get."""

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from model_service import tracing
from model_service.config import SettingsError, read_settings
from model_service.embedded import Addresses
from tests.otlp import Collector, collecting
from tests.test_start import SERVING_PROCESS, WRONG, environment, free_port

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


def of_opentelemetry(header: str) -> tuple[str, str, bool] | None:
    context = TraceContextTextMapPropagator().extract({"traceparent": header})
    found = get_current_span(context).get_span_context()
    if not found.is_valid:
        return None
    return f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled


def ours(header: str) -> tuple[str, str, bool] | None:
    found = tracing.parse(header)
    return None if found is None else (found.trace_id, found.span_id, found.sampled)


@pytest.mark.parametrize(
    ("header", "is_valid"),
    [
        (VALID, True),
        (f" {VALID}\t", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"00-{TRACE}-{PARENT}-03", True),
        (f"cc-{TRACE}-{PARENT}-01-of.a.later.version", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (VALID.upper(), False),
        (f"{VALID},{VALID}", False),
        (f"00-{TRACE}-{PARENT}", False),
        (f"00-{TRACE[1:]}-{PARENT}-01", False),
        (f"00-{TRACE}x-{PARENT}-01", False),
        ("", False),
        ("a trace", False),
    ],
)
def test_a_header_is_read_as_opentelemetry_reads_it(header: str, is_valid: bool) -> None:
    assert (ours(header) is not None) is is_valid
    assert ours(header) == of_opentelemetry(header)


@given(st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}(-[a-z]*)?", fullmatch=True))
def test_any_header_is_read_as_opentelemetry_reads_it(header: str) -> None:
    assert ours(header) == of_opentelemetry(header)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_what_is_written_is_read(trace_id: bytes, span_id: bytes, sampled: bool) -> None:
    written = tracing.TraceContext(trace_id.hex(), span_id.hex(), sampled)
    assert tracing.parse(written.traceparent) == (written if any(trace_id) and any(span_id) else None)


def test_without_a_collector_nothing_of_opentelemetry_is_imported(servers: Addresses, tmp_path: Path) -> None:
    code = """
        import sys
        from model_service import tracing
        from model_service.api.__main__ import application
        from model_service.config import read_settings
        tracing.check(read_settings())
        import model_service.jobs.worker, model_service.serving.http.application
        application().test_client().get("/api/v1/models")
        assert tracing.span("a part") is tracing.NOTHING
        found = {name for name, module in sys.modules.items() if module is not None}
        print(sorted(name for name in found if name.startswith(("opentelemetry", "google.protobuf"))))
    """
    assert run(code, environment(servers, tmp_path)) == "[]\n"


def test_a_malformed_header_begins_a_trace_and_a_valid_one_is_continued() -> None:
    assert tracing.begin("HTTP", VALID, "server").context == tracing.parse(VALID)
    begun = {tracing.begin("HTTP", wrong, "server").context.trace_id for wrong in (None, "", VALID + "-x")}
    assert len(begun) == 3
    assert TRACE not in begun


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


RECORDING = """
    import os, time
    from model_service import tracing
    from model_service.config import read_settings
    from model_service.tracing.context import CURRENT
    from multiprocessing import get_context

    def work():
        tracing.start_exporting(read_settings(), "api")
        with tracing.begin("request", os.environ.get("TRACEPARENT"), "server") as span:
            CURRENT.set(span.context)
            with tracing.span("outer"), tracing.span("inner", {"a": 1}):
                pass
            pieces = tracing.streamed("stream", (piece for piece in (b"1", b"2")), {})
            next(pieces)
            pieces.close()
            try:
                with tracing.span("broken"):
                    raise ValueError("a secret")
            except ValueError:
                pass
"""


def run(code: str, env: dict[str, str] | os._Environ[str], *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "end", ["work()", "p = get_context('fork').Process(target=work); p.start(); p.join()"]
)
def test_spans_are_sent_at_the_end_of_a_process_also_of_a_forked_one(collector: Collector, end: str) -> None:
    env = os.environ | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
        "TRACEPARENT": VALID,
    }
    run(f"{textwrap.dedent(RECORDING)}\n{end}", env)
    spans = {span.name: span for span in collector.of(TRACE)}
    assert set(spans) == {"request", "outer", "inner", "stream", "broken"}
    assert {span.service for span in spans.values()} == {"model-service-api"}
    request = spans["request"]
    assert request.parent_id == PARENT
    assert [spans[name].parent_id for name in ("outer", "inner", "stream", "broken")] == [
        request.span_id,
        spans["outer"].span_id,
        request.span_id,
        request.span_id,
    ]
    assert spans["inner"].attributes == {"a": 1}
    assert {name for name, span in spans.items() if span.failed} == {"broken"}
    assert spans["broken"].attributes == {"error.type": "ValueError"}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"OTEL_SERVICE_NAME": "mine"}, {"mine"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,a=b"}, {"ours"}),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, set()),
        ({"OTEL_SDK_DISABLED": "true"}, set()),
        ({"TRACEPARENT": f"00-{TRACE}-{PARENT}-00"}, set()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, set()),
    ],
)
def test_the_variables_of_opentelemetry(
    collector: Collector, settings: dict[str, str], names: set[str]
) -> None:
    env = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **settings}
    run(f"{textwrap.dedent(RECORDING)}\nwork()", env)
    assert {span.service for span in collector.spans} == names


BUSY = """
    import os, sys
    from model_service import tracing
    from model_service.config import read_settings
    from model_service.tracing.context import CURRENT
    tracing.start_exporting(read_settings(), "api")
    for _ in range(3_000):
        with tracing.begin("request", None, "server") as span:
            CURRENT.set(span.context)
            with tracing.span("part"):
                pass
    print("answered")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("kind", ["refuses", "never answers"])
def test_a_collector_that_is_away_delays_nothing(kind: str) -> None:
    """6,000 spans do not fit the queue of 2,048. The process ends, although spans wait and are retried."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if kind == "refuses":
            listener.close()
        port = free_port() if kind == "refuses" else listener.getsockname()[1]
        env = os.environ | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            # Later than the limit of this test, if anything waited for it.
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
        }
        assert run(BUSY, env) == "answered\n"


ANSWERING = """
    from model_service.api.__main__ import application
    http = application().test_client()
    print({http.get("/api/v1/models").status_code for _ in range(100)})
"""


def test_requests_are_answered_while_the_collector_is_away(servers: Addresses, tmp_path: Path) -> None:
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    url = f"http://127.0.0.1:{free_port()}"
    env = environment(servers, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url, **small)
    assert run(ANSWERING, env) == "{200}\n"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318 is not",
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not allowed: "),
    ],
)
def test_a_wrong_setting(settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(**{name.lower(): value for name, value in settings.items()})
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("headers", ["Authorization: Bearer secret", "a=1,secret", "a=secret;b=1"])
def test_a_malformed_header_is_rejected_without_its_secret(
    servers: Addresses, tmp_path: Path, headers: str
) -> None:
    env = environment(
        servers,
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318",
        OTEL_EXPORTER_OTLP_HEADERS=headers,
    )
    ended = subprocess.run(
        [sys.executable, "-m", "model_service.jobs"], env=env, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert ended.returncode == WRONG
    (line,) = ended.stderr.splitlines()
    assert line.startswith("OTEL_EXPORTER_OTLP_HEADERS must be NAME=VALUE")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("model_service.api.__main__", []),
        ("model_service.jobs.__main__", []),
        (SERVING_PROCESS, ["--index", "0", "--control", "0"]),
    ],
)
def test_without_the_extra_a_program_says_what_to_install(
    servers: Addresses, tmp_path: Path, module: str, arguments: list[str]
) -> None:
    code = f"import sys; sys.modules['opentelemetry'] = None; from {module} import main; sys.exit(main())"
    control, _ = socket.socketpair()
    with control:
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment(servers, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318"),
            stdin=control,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert ended.returncode == WRONG, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "pip install 'model-service[traces]'" in line
