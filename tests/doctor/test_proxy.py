"""``model-service doctor --url``: nginx before the registry, with the lines that it needs and without."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_service.config import Settings
from model_service.doctor import proxy
from model_service.doctor.findings import Setup
from model_service.storage.common.db import Database
from tests.deploy.test_nginx import configuration
from tests.e2e.conftest import free_ports
from tests.processes import running
from tests.test_connections import answers
from tests.test_nginx import nginx
from tests.waiting import wait_for

_GRACE_S = 3
_METRICS = "location = /models/metrics { return 404; }"
_LINES = "client_max_body_size 0; proxy_request_buffering off;"


@pytest.fixture
def registry(settings: Settings, database: Database, tmp_path: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    with running("model_service.api", settings, tmp_path / "log", port=port, body_grace_s=_GRACE_S):
        wait_for(lambda: answers(port), "the registry", deadline_s=60)
        yield port


def found_at(url: str, settings: Settings, **changes: object) -> dict[str, tuple[str, str]]:
    """The status and the message of each check."""
    known = settings.model_copy(update={"body_grace_s": float(_GRACE_S), **changes})
    return {each.check: (each.status, each.message) for each in proxy.check(Setup(known, [], url))}


def behind_nginx(
    folder: Path, registry: int, lines: str, settings: Settings, path: str = "/models", **changes: object
) -> dict[str, tuple[str, str]]:
    """Check a server of nginx that forwards /models to the registry; ``lines`` belong into its ``server``."""
    (port,) = free_ports(1)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; pid {folder}/nginx.pid; {'user root;' if os.geteuid() == 0 else ''} events {{}}\n"
        f"http {{ access_log off; {''.join(f'{kind}_temp_path {folder}/{kind};' for kind in kinds)}\n"
        f"server {{ listen 127.0.0.1:{port}; {lines}\n"
        f"location /models/ {{ proxy_pass http://127.0.0.1:{registry}/; }} }} }}\n"
    )
    with nginx(file, port):
        return found_at(f"http://127.0.0.1:{port}{path}", settings, **changes)


def test_the_service_itself(registry: int, settings: Settings) -> None:
    found = found_at(f"http://127.0.0.1:{registry}", settings)
    assert {name: status for name, (status, _) in found.items()} == {
        "proxy": "ok",
        "proxy-metrics": "warning",
        "proxy-body-size": "ok",
        "proxy-streaming": "ok",
        "proxy-timeout": "ok",
    }


def test_an_address_without_a_server(settings: Settings) -> None:
    (port,) = free_ports(1)
    found = found_at(f"http://127.0.0.1:{port}", settings)
    assert list(found) == ["proxy"]
    assert found["proxy"][0] == "error"
    assert "does not respond: Connection refused" in found["proxy"][1]
    for wrong in ("http://127.0.0.1:99999", f"http://{'a' * 64}.example"):
        ((status, message),) = found_at(wrong, settings).values()
        assert status == "error"
        assert f"{wrong} is not a URL: " in message


@pytest.mark.skipif(
    None in (shutil.which("nginx"), shutil.which("openssl")), reason="nginx or openssl is not installed"
)
class TestNginx:
    def test_with_its_defaults(self, registry: int, settings: Settings, tmp_path: Path) -> None:
        found = behind_nginx(tmp_path, registry, "", settings, public_url="https://example.com")
        for check, status, hint in (
            ("proxy", "ok", "leads to the service"),
            ("proxy-url", "warning", "PUBLIC_URL=https://example.com differs"),
            ("proxy-address", "warning", "TRUSTED_PROXIES=0"),
            ("proxy-metrics", "warning", "/metrics is public"),
            ("proxy-body-size", "error", "rejects a body of 0.5 GB (MAX_FILE_SIZE) with 413"),
            ("proxy-streaming", "warning", "proxy_request_buffering off"),
        ):
            assert (found[check][0], hint in found[check][1]) == (status, True), found
        assert "proxy-timeout" not in found  # its requests do not reach the service

    def test_with_the_lines_that_the_service_needs(
        self, registry: int, settings: Settings, tmp_path: Path
    ) -> None:
        found = behind_nginx(tmp_path, registry, f"{_LINES} {_METRICS}", settings, trusted_proxies=1)
        assert {status for status, _ in found.values()} == {"ok"}, found
        assert set(found) == {
            "proxy",
            "proxy-metrics",
            "proxy-body-size",
            "proxy-streaming",
            "proxy-timeout",
        }

    def test_the_files_of_deploy(
        self, registry: int, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain, tls = free_ports(2)
        ports = {"80": plain, "443": tls, "8084": registry, "8085": registry}
        file = configuration(tmp_path, "hosts.conf", ports)
        url = f"https://127.0.0.1:{tls}"
        with nginx(file, plain):
            untrusted = found_at(url, settings)
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "models.crt"))
            found = found_at(url, settings, trusted_proxies=1, public_url=url)
        assert list(untrusted) == ["proxy"]
        assert "self-signed certificate. Correct it, or set SSL_CERT_FILE" in untrusted["proxy"][1]
        assert {status for status, _ in found.values()} == {"ok"}, found

    def test_with_a_short_timeout(self, registry: int, settings: Settings, tmp_path: Path) -> None:
        found = behind_nginx(tmp_path, registry, f"{_LINES} client_body_timeout 1s;", settings)
        status, message = found["proxy-timeout"]
        assert status == "warning"
        assert "the proxy ends a slow request after" in message

    def test_a_path_that_is_not_the_service(self, registry: int, settings: Settings, tmp_path: Path) -> None:
        found = behind_nginx(tmp_path, registry, "", settings, path="/other")
        assert found["proxy"][0] == "error"
        assert "/other/health/live returns 404, not the response of the service" in found["proxy"][1]

    def test_a_service_that_is_down(self, settings: Settings, tmp_path: Path) -> None:
        (port,) = free_ports(1)
        found = behind_nginx(tmp_path, port, "", settings)
        assert "the proxy does not reach the service (502)" in found["proxy"][1]
