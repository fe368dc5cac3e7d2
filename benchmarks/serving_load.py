"""The load of the serving benchmark: ``wrk``, which takes nothing from the servers but a little of a core."""

import http.client
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from serving_models import Array, Question

TIMEOUT_S = 60
_WRK = "wrk"
# Its percentiles are in µs; anything but a 2xx or 3xx is counted in errors.status.
_SCRIPT = """
wrk.method = "POST"
%(headers)s
local file = assert(io.open(%(body)s, "rb"))
wrk.body = file:read("*a")
file:close()

done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %%d, "seconds": %%f, "p50_ms": %%f, "p99_ms": %%f, "failed": %%d}\\n',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Rate:
    """What came of one measurement."""

    per_second: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> None:
    if shutil.which(_WRK) is None:
        raise SystemExit(
            "wrk is not installed, and the rates are measured with it: install it "
            "(apt-get install wrk, brew install wrk), or choose other sections with --only."
        )


class Load:
    """One question, written down for wrk in ``folder``."""

    def __init__(self, question: Question, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._url = question.url
        self._script = folder / "question.lua"
        body = folder / "body"
        body.write_bytes(question.body)
        headers = "\n".join(
            f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
            for name, value in question.headers.items()
        )
        self._script.write_text(_SCRIPT % {"headers": headers, "body": json.dumps(str(body))})

    def measure(self, connections: int, seconds: int) -> Rate:
        """Raises SystemExit where a single request failed: a rate of failures is no rate."""
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s"]
        found = subprocess.run(
            [_WRK, *options, "-s", str(self._script), self._url], capture_output=True, text=True, check=False
        )
        if found.returncode != 0:
            raise SystemExit(f"wrk failed on {self._url}: {found.stderr.strip() or found.stdout.strip()}")
        seen = json.loads(found.stdout.splitlines()[-1])
        if seen["failed"] or not seen["requests"]:
            raise SystemExit(f"{self._url}: {seen['failed']} of {seen['requests']} requests failed")
        return Rate(seen["requests"] / seen["seconds"], seen["p50_ms"], seen["p99_ms"])


def ask(question: Question, *, timeout_s: float = TIMEOUT_S) -> Array:
    """One request over a connection of its own. Raises: OSError; ValueError where the answer is not 200."""
    parts = urlsplit(question.url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("POST", parts.path, question.body, dict(question.headers))
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as exc:
        raise OSError(f"{type(exc).__name__}: {exc}") from exc
    finally:
        connection.close()
    if answer.status != 200:
        raise ValueError(f"{question.url} answered {answer.status}: {body[:300].decode(errors='replace')}")
    return question.read(body, {name.lower(): value for name, value in answer.getheaders()})
