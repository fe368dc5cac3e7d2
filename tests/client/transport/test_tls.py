"""HTTPS where HTTP is spoken and the other way round, and a certificate that nobody trusts."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_service.client import AsyncInferenceClient, ModelServiceClient, TLSFailed

from ..scripted import Scripted, answers

# What a TLS server answers to bytes that are no handshake: the alert "unexpected message".
ALERT = b"\x15\x03\x01\x00\x02\x02\x0a"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def https_port(certificate: tuple[Path, Path]) -> Iterator[int]:
    """A server that speaks HTTPS and answers a handshake that succeeds with an empty object."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            if plain.recv(3, socket.MSG_PEEK) == b"GET":
                plain.recv(65536)
                plain.sendall(ALERT)
                plain.close()
                continue
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_certificate_that_is_not_trusted_says_how_to_trust_it(
    https_port: int, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://127.0.0.1:{https_port}"
    with ModelServiceClient(url) as client, pytest.raises(TLSFailed, match="SSL_CERT_FILE") as caught:
        client.list_models()
    assert url in caught.value.message
    assert "self" in caught.value.message  # OpenSSL's reason: self-signed
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with ModelServiceClient(url) as client, pytest.raises(Exception, match="page") as caught:
        client.list_models()  # the connection is made; its answer is no list
    assert not isinstance(caught.value, TLSFailed)


def test_https_at_a_port_of_http(script: Scripted) -> None:
    script.steps = [answers(200)]
    url = script.url.replace("http://", "https://")
    with (
        ModelServiceClient(url) as client,
        pytest.raises(TLSFailed, match="does not speak HTTPS: use http://"),
    ):
        client.list_models()


def test_http_at_a_port_of_https(https_port: int) -> None:
    url = f"http://127.0.0.1:{https_port}"
    with ModelServiceClient(url) as client, pytest.raises(TLSFailed, match="speaks HTTPS: use https://"):
        client.list_models()


@pytest.mark.parametrize(
    "page",
    [
        b"<h1>The plain HTTP request was sent to HTTPS port</h1>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"Reason: You're speaking plain HTTP to an SSL-enabled server port.",
    ],
)
def test_a_proxy_that_wants_https(script: Scripted, page: bytes) -> None:
    script.steps = [answers(400, page)]
    with (
        ModelServiceClient(script.url) as client,
        pytest.raises(TLSFailed, match="speaks HTTPS: use https://"),
    ):
        client.list_models()


def test_the_asynchronous_client_says_the_same(https_port: int) -> None:
    async def ask() -> None:
        async with AsyncInferenceClient() as client:
            await client.predict(f"https://127.0.0.1:{https_port}/v1/infer/x", [[1.0]])

    with pytest.raises(TLSFailed, match="SSL_CERT_FILE"):
        asyncio.run(ask())


def test_the_command_line_does_not_advise_to_start_a_service(https_port: int) -> None:
    command = [sys.executable, "-m", "model_service.cli", "--url", f"https://127.0.0.1:{https_port}"]
    said = subprocess.run([*command, "models", "list"], capture_output=True, text=True)
    assert said.returncode == 1
    assert "SSL_CERT_FILE" in said.stderr
    assert "model-service up" not in said.stderr
