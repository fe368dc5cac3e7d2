"""The files of deploy/nginx, with TLS: nginx accepts them, and the service works behind each."""

import hashlib
import http.client
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import urllib3

from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.deploy.test_systemd import ROOT
from tests.e2e.conftest import free_ports
from tests.factories import new_model
from tests.processes import running
from tests.test_connections import answers
from tests.test_nginx import command, nginx
from tests.waiting import wait_for

_NEEDED = ("nginx", "openssl")
pytestmark = [
    pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed") for name in _NEEDED
]

FILES = ROOT / "deploy" / "nginx"
# File → the host of the API, and its path.
LAYOUTS = {"hosts.conf": ("models.example.com", ""), "sub-path.conf": ("example.com", "/models")}
_KEY = "348a8f4748f44a06"
_UPLOAD_BYTES = 20_000_000


def certificate(folder: Path) -> None:
    """A certificate of all names, under each name that the files use."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *(
                "-subj",
                "/CN=example.com",
                "-addext",
                "subjectAltName=DNS:example.com,DNS:*.example.com,IP:127.0.0.1",
            ),
            *("-days", "2", "-keyout", str(folder / "models.key"), "-out", str(folder / "models.crt")),
        ],
        check=True,
        capture_output=True,
    )
    for suffix in ("key", "crt"):
        shutil.copy(folder / f"models.{suffix}", folder / f"inference.{suffix}")


def configuration(folder: Path, layout: str, ports: dict[str, int]) -> Path:
    """The files with this test's folder and ports in the place of the installed ones."""
    certificate(folder)
    for file in FILES.iterdir():
        text = file.read_text().replace("/etc/nginx/model-service", str(folder))
        for name, port in ports.items():
            text = re.sub(rf"(listen |127\.0\.0\.1:){name}\b", rf"\g<1>{port}", text)
        (folder / file.name).write_text(re.sub(r"listen (\d+)", r"listen 127.0.0.1:\1", text))
    path = folder / "nginx.conf"
    path.write_text(f"{_main(folder)} events {{}}\nhttp {{ {_http(folder)} include {folder / layout}; }}\n")
    return path


def of_compose(folder: Path, ports: dict[str, int]) -> Path:
    """deploy/compose/nginx.conf with this test's folder, addresses and ports."""
    certificate(folder)
    text = (FILES.parent / "compose" / "nginx.conf").read_text()
    for secret, file in {"certificate": "models.crt", "key": "models.key"}.items():
        text = text.replace(f"/run/secrets/tls_{secret}", str(folder / file))
    for host in ("model-service", "serving"):
        text = text.replace(f"http://{host}:", "http://127.0.0.1:")
    for name, port in ports.items():
        text = re.sub(rf"(listen |127\.0\.0\.1:){name}\b", rf"\g<1>{port}", text)
    text = re.sub(r"listen (\d+)", r"listen 127.0.0.1:\1", text).replace("pid /tmp/nginx.pid;", _main(folder))
    path = folder / "nginx.conf"
    path.write_text(text.replace("access_log off;", _http(folder)))
    return path


def _main(folder: Path) -> str:
    return f"daemon off; pid {folder}/nginx.pid; {'user root;' if os.geteuid() == 0 else ''}"


def _http(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "access_log off; " + "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nginx_accepts_the_files(layout: str, tmp_path: Path) -> None:
    ports = dict(zip(("80", "443", "8084", "8085"), free_ports(4), strict=True))
    done = subprocess.run(
        command(configuration(tmp_path, layout, ports), "-t"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_service_works_behind_it(
    layout: str, settings: Settings, database: Database, tmp_path: Path
) -> None:
    host, path = LAYOUTS[layout]
    public = f"https://{host}{path}"
    plain, tls, api, inference = free_ports(4)
    file = configuration(tmp_path, layout, {"80": plain, "443": tls, "8084": api, "8085": inference})
    changes = {"port": api, "trusted_proxies": 1, "public_url": public, "enable_auth": True, "api_key": _KEY}
    with ExitStack() as stack:
        stack.enter_context(running("model_service.api", settings, tmp_path / "log", **changes))
        wait_for(lambda: answers(api), "the API", deadline_s=60)
        stack.enter_context(nginx(file, plain))
        client = stack.enter_context(
            urllib3.HTTPSConnectionPool(
                "127.0.0.1",
                tls,
                ssl_context=ssl.create_default_context(cafile=tmp_path / "models.crt"),
                server_hostname=host,
                assert_hostname=host,
                headers={"Host": host, "X-API-Key": _KEY},
                timeout=60,
                retries=False,
            )
        )
        created = client.request("POST", f"{path}/api/v1/models", json=new_model())
        assert created.status == 201, created.data
        model = created.json()["model_id"]
        assert created.json()["download_url"] == f"{public}/api/v1/models/{model}/download"
        content = os.urandom(1_000_000) * (_UPLOAD_BYTES // 1_000_000)
        url = f"{path}/api/v1/models/{model}/files/large.bin"
        assert client.request("PUT", url, body=content).status == 201
        found = client.request("GET", url)
        assert hashlib.sha256(found.data).digest() == hashlib.sha256(content).digest()
        moved = urllib3.request(
            "GET", f"http://127.0.0.1:{plain}{path}/health", headers={"Host": host}, redirect=False
        )
        assert (moved.status, moved.headers["Location"]) == (301, f"{public}/health")


class _Found(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None: ...


@contextmanager
def finds_everything() -> Iterator[int]:
    """A server that returns 200 for every path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Found) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def status(port: int, folder: Path, host: str, path: str) -> int:
    """The status of a request with exactly this path."""
    context = ssl.create_default_context(cafile=folder / "models.crt")
    context.check_hostname = False
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    connection.request("GET", path, headers={"Host": host})
    try:
        return connection.getresponse().status
    finally:
        connection.close()


_METRICS = (
    "metrics",
    "metrics/",
    "metrics//",
    "metrics?a=1",
    "/metrics",
    "%6detrics",
    "metrics%2f",
    "health/../metrics",
)


@pytest.mark.parametrize("layout", [*LAYOUTS, "compose"])
def test_the_metrics_are_not_published(layout: str, tmp_path: Path) -> None:
    """They need no key. Everything else arrives at the servers."""
    plain, tls, other = free_ports(3)
    with finds_everything() as server:
        ports = {"80": plain, "443": tls, "8443": other, "8084": server, "8085": server}
        if layout == "compose":
            file, sites = of_compose(tmp_path, ports), [(tls, "localhost", ""), (other, "localhost", "")]
        else:
            file = configuration(tmp_path, layout, ports)
            sites = {
                "hosts.conf": [(tls, "models.example.com", ""), (tls, "inference.example.com", "")],
                "sub-path.conf": [(tls, "example.com", "/models"), (tls, "example.com", "/inference")],
            }[layout]
        with nginx(file, tls):
            for port, host, path in sites:
                for metrics in _METRICS:
                    assert status(port, tmp_path, host, f"{path}/{metrics}") == 404, (host, metrics)
                for page in ("health", "v1/infer/metrics", "metricss"):
                    assert status(port, tmp_path, host, f"{path}/{page}") == 200, (host, page)
