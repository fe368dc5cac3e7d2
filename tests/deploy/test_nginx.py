"""The files of deploy/nginx, with TLS: nginx accepts them, and the service works behind each."""

import hashlib
import os
import re
import shutil
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

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

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

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
            *("-subj", "/CN=example.com", "-addext", "subjectAltName=DNS:example.com,DNS:*.example.com"),
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
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; pid {folder}/nginx.pid; {'user root;' if os.geteuid() == 0 else ''} events {{}}\n"
        f"http {{ access_log off; {paths} include {folder / layout}; }}\n"
    )
    return path


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
