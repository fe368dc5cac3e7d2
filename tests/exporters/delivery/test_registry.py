"""Pushes to a real registry, Debian's docker-registry with a password, compared byte by byte by skopeo."""

import hashlib
import http.server
import io
import json
import shutil
import socket
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from exporters.delivery import container, registry
from exporters.delivery.oci import MANIFEST, Credentials, Registry, RegistryError, digest_of
from tests.e2e.conftest import free_ports
from tests.waiting import wait_for

from .conftest import Packages

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None,
    reason="there is no docker-registry: apt-get install docker-registry",
)
# htpasswd -Bbn pusher "correct horse"
PASSWORDS = "pusher:$2y$05$xMEl46zcYyRTmEC2/CLY0ukuWoVWkNCq6npV1g.KSZMUY4M3sSSkC\n"
PUSHER = Credentials("pusher", "correct horse")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    (port,) = free_ports(1)
    (folder / "passwords").write_text(PASSWORDS)
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of this test alone"},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "passwords")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(
            lambda: urllib3.request("GET", f"{url}/v2/", retries=False).status == 401,
            "the registry",
            ignoring=(urllib3.exceptions.HTTPError,),
        )
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def server(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("server") / "server.zip"
    container.write(path, packages("onnx"), form="server", image_name="pets", image_tag="v3")
    return path


@pytest.fixture
def base(url: str) -> registry.Base:
    """An image of one layer."""
    stored = Registry(url, "library/base", PUSHER)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("etc/base")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"base"))
    layer = buffer.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/opt/venv/bin", "A=b=c"], "User": "0", "Entrypoint": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    ).encode()
    for blob in (layer, config):
        stored.upload(blob, digest_of(blob))
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest_of(layer),
                "size": len(layer),
            }
        ],
    }
    stored.put_manifest("latest", document)
    return registry.Base(stored)


def pulled(url: str, repository: str, tag: str, folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """The manifest and the layers of an image, by skopeo, which checks every digest."""
    if shutil.which("skopeo") is None:
        pytest.skip("there is no skopeo: apt-get install skopeo")
    source = f"docker://{url.removeprefix('http://')}/{repository}:{tag}"
    credentials = f"--src-creds={PUSHER.username}:{PUSHER.password}"
    subprocess.run(
        ["skopeo", "copy", "--src-tls-verify=false", credentials, source, f"dir:{folder}"],
        check=True,
        capture_output=True,
    )
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return manifest, [folder / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]


def files(layer: Path) -> dict[str, bytes]:
    with tarfile.open(layer) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]


def contents(path: Path, folder: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {f"{folder}/{name}": archive.read(name) for name in archive.namelist()}


def test_an_image_is_the_base_and_the_package(
    url: str, base: registry.Base, server: Path, tmp_path: Path
) -> None:
    target = Registry(url, "users/7/models/abc", PUSHER)

    digest = registry.push_server(server, base, target, "latest")

    assert registry.push_server(server, base, target, "again") == digest  # equal packages, equal images
    manifest, layers = pulled(url, "users/7/models/abc", "latest", tmp_path / "image")
    assert digest == digest_of((tmp_path / "image/manifest.json").read_bytes())
    assert files(layers[0]) == {"etc/base": b"base"}
    assert files(layers[1]) == contents(server, "model")
    config = json.loads(
        (tmp_path / "image" / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes()
    )
    assert config["rootfs"]["diff_ids"] == [
        f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}" for layer in layers
    ]
    assert config["config"]["Cmd"] == ["granian", "server:application"]
    assert config["config"]["Entrypoint"] is None
    assert config["config"]["User"] == "10001:10001"
    assert {"PATH=/opt/venv/bin", "A=b=c", "GRANIAN_PORT=8000"} <= set(config["config"]["Env"])


def test_a_modelcar_has_the_package_in_models(
    url: str, base: registry.Base, packages: Packages, tmp_path: Path
) -> None:
    for tag, under in (("alone", None), ("on-base", base)):
        registry.push_modelcar(packages("onnx"), under, Registry(url, "models/car", PUSHER), tag)
        _, layers = pulled(url, "models/car", tag, tmp_path / tag)
        assert files(layers[-1]) == contents(packages("onnx"), "models")


def test_an_artefact_has_a_layer_for_each_file(url: str, packages: Packages, tmp_path: Path) -> None:
    target = Registry(url, "models/artefact", PUSHER)

    registry.push_artefact(packages("onnx"), target, "v3")

    manifest, _ = target.manifest("v3")
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    found, kinds = {}, {}
    for layer in manifest["layers"]:
        name = layer["annotations"]["org.cncf.model.filepath"]
        target.download(layer["digest"], tmp_path / "file")
        found[f"/{name}"] = (tmp_path / "file").read_bytes()
        kinds[name] = layer["mediaType"].removeprefix("application/vnd.cncf.model.")
    assert found == contents(packages("onnx"), "")
    assert kinds["model.onnx"] == "weight.v1.raw"
    assert kinds["README.md"] == kinds["labels.txt"] == "doc.v1.raw"
    assert kinds["metadata.json"] == "weight.config.v1.raw"
    assert kinds["runtimes/python/model_wrapper.py"] == "code.v1.raw"


@pytest.mark.parametrize("credentials", [None, Credentials("pusher", "wrong")], ids=["none", "wrong"])
def test_a_registry_that_refuses(
    credentials: Credentials | None, url: str, base: registry.Base, server: Path
) -> None:
    with pytest.raises(RegistryError, match="refuses access to users/8/x: check the user name") as caught:
        registry.push_server(server, base, Registry(url, "users/8/x", credentials), "latest")

    assert "wrong" not in caught.value.args[0]


def test_a_registry_that_is_away(base: registry.Base, server: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(RegistryError, match="cannot be reached"):
            registry.push_modelcar(server, None, Registry(url, "a/b"), "latest")


def test_something_else_than_a_registry() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        try:
            stored = Registry(f"http://127.0.0.1:{page.server_port}", "library/base")
            with pytest.raises(RegistryError, match="Is it an OCI registry"):
                stored.manifest("latest")
        finally:
            page.shutdown()
            thread.join()


def test_a_base_that_is_not_there(url: str, server: Path) -> None:
    target = Registry(url, "users/9/x", PUSHER)

    with pytest.raises(RegistryError, match="does not have library/none"):
        registry.push_server(server, registry.Base(Registry(url, "library/none", PUSHER)), target, "latest")
    with pytest.raises(RegistryError, match="does not have users/9/x"):  # nothing half-made
        target.manifest("latest")
