"""Log lines: text for people on a terminal, JSON for programs."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

STRUCTLOG = """
    import logging
    import structlog
    from model_service.config import read_settings
    from model_service.log import configure_logging
    configure_logging(read_settings())
    structlog.get_logger().info("job.done", path="a\\x1b[2Jb", seconds=1.5)
    try:
        raise ValueError("wrong\\x1b[31m")
    except ValueError:
        structlog.get_logger().exception("job.broken", job_id="j-1")
    logging.getLogger("rq.worker").warning("from a library\\x1b[0m")
"""
PLAIN = """
    from model_service.serving.pool.plain_log import log_line
    log_line("info", "job.done", path="a", seconds=1.5)
"""


def written(code: str, *, terminal: bool, log_format: str | None) -> str:
    """What the code writes to its stderr."""
    env = {name: value for name, value in os.environ.items() if name != "LOG_FORMAT"}
    if log_format is not None:
        env["LOG_FORMAT"] = log_format
    ours, theirs = os.openpty() if terminal else os.pipe()
    with os.fdopen(theirs, "wb") as stderr:
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], env=env, stderr=stderr, check=True, timeout=60
        )
    found = b""
    try:
        while piece := os.read(ours, 65536):
            found += piece
    except OSError:  # a terminal that nobody holds open any more
        pass
    finally:
        os.close(ours)
    return found.decode()


@pytest.mark.parametrize("code", [STRUCTLOG, PLAIN], ids=["structlog", "the supervisor"])
@pytest.mark.parametrize(
    ("terminal", "log_format", "as_text"),
    [
        (True, None, True),
        (True, "", True),
        (False, None, False),
        (True, "json", False),
        (False, "text", True),
    ],
)
def test_text_on_a_terminal_and_json_elsewhere_unless_it_is_set(
    code: str, terminal: bool, log_format: str | None, as_text: bool
) -> None:
    lines = written(code, terminal=terminal, log_format=log_format).splitlines()
    assert "job.done" in lines[0]
    if as_text:
        assert lines[0].endswith("seconds=1.5")
        assert not any(line.startswith("{") for line in lines)
    else:
        assert [json.loads(line) for line in lines][0]["event"] == "job.done"  # noqa: RUF015 - all are JSON


def test_no_line_controls_the_terminal() -> None:
    text = written(STRUCTLOG, terminal=True, log_format=None)
    assert "\x1b" not in text
    assert "path=a[2Jb" in text
    assert "ValueError: wrong[31m" in text
    assert "job_id=j-1" in text
    assert "from a library[0m" in text
