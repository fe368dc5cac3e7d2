"""The registry does what its OpenAPI document says: all checks, with ENABLE_AUTH and without."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.e2e.conftest import free_ports
from tests.processes import running
from tests.test_connections import answers
from tests.waiting import wait_for

_KEY = "correct horse battery staple"


@pytest.mark.large
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("auth", [False, True])
def test_the_registry_keeps_its_contract(
    settings: Settings, database: Database, tmp_path: Path, conforms: Callable[..., None], auth: bool
) -> None:
    (port,) = free_ports(1)
    changes = {"port": port, "rate_limits": "off", "enable_auth": auth, "api_key": _KEY}
    with running("model_service.api", settings, tmp_path / "log", **changes):
        wait_for(lambda: answers(port), "the server", deadline_s=60)
        options = ("-H", f"X-API-Key: {_KEY}") if auth else ()
        conforms(f"http://127.0.0.1:{port}", *options)
