"""The receiver in docs/webhooks.md, run as it is."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from flask.testing import FlaskClient

from model_service.config import Settings
from tests.api.models.test_versions import register
from tests.api.webhooks.test_webhooks import WEBHOOKS, changed, deliveries
from tests.e2e.conftest import free_ports
from tests.receiver import delivering
from tests.waiting import wait_for

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return changed(settings, webhook_allowed_networks="127.0.0.0/8", webhook_retry_s=0.05)


@pytest.fixture
def received(http: FlaskClient, tmp_path: Path) -> Iterator[tuple[dict[str, Any], str, Path]]:
    """A webhook, the address of the page's receiver, and the file with its output."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/"
    webhook: Any = http.post(WEBHOOKS, json={"url": url}).json
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    program, output = tmp_path / "receiver.py", tmp_path / "output"
    program.write_text(f"SECRET, PORT = {webhook['secret']!r}, {port}\n{code}")
    with output.open("wb") as log:
        process = subprocess.Popen([sys.executable, str(program)], stdout=log)
    try:
        yield webhook, url, output
    finally:
        process.kill()
        process.wait()


def test_the_example_prints_each_event_once_and_rejects_forged_ones(
    http: FlaskClient, settings: Settings, received: tuple[dict[str, Any], str, Path]
) -> None:
    webhook, url, output = received
    model_id = register(http)
    with delivering(settings):
        (delivery,) = wait_for(lambda: deliveries(http, webhook, status="delivered"), "the event")
        http.post(f"{WEBHOOKS}/{webhook['id']}/deliveries/{delivery['id']}/resend")
        wait_for(lambda: deliveries(http, webhook, status="delivered"), "it to be sent again")
    forged = {"webhook-id": "msg_1", "webhook-timestamp": "1796052889", "webhook-signature": "v1,Zm9yZ2Vk"}
    assert urllib3.request("POST", url, body=b"{}", headers=forged).status == 401
    assert output.read_text() == f"version.created {model_id}\n"
