"""A client of OCI registries: manifests and blobs, over HTTP.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from .errors import DeliveryError

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({INDEX, _DOCKER_INDEX})
_ACCEPT = ", ".join((INDEX, MANIFEST, _DOCKER_INDEX, _DOCKER_MANIFEST))
_CHUNK_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 4 << 20  # the specification asks registries to accept at least this
_TIMEOUT = urllib3.Timeout(connect=10, read=60)


class RegistryError(DeliveryError):
    """The registry cannot be reached, or refuses. The message names the registry, never a credential."""


@dataclass(frozen=True)
class Credentials:
    username: str
    password: str = field(repr=False)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One repository of a registry.

    Args:
        url: the registry's address, ``https://registry.example.com``.
        repository: the name in the registry, ``team/pets``.
        credentials: for registries with Basic or Bearer authentication; None: anonymous.
    """

    def __init__(self, url: str, repository: str, credentials: Credentials | None = None) -> None:
        self.url, self.repository = url.rstrip("/"), repository
        self._credentials = credentials
        self._authorization: str | None = None
        # Blobs may be redirected to a store; urllib3 sends no authorization to another host.
        retries = urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=5)
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=retries)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def manifest(self, reference: str) -> tuple[dict[str, Any], str]:
        """Return the manifest of a tag or digest, and its media type. Raises RegistryError."""
        answer = self._request(
            "GET", f"manifests/{reference}", headers={"Accept": _ACCEPT}, expected=(200,), preload=False
        )
        data = self._read(answer)
        if reference.startswith("sha256:") and digest_of(data) != reference:
            raise RegistryError(f"The registry {self.host} sent another manifest than {reference}.")
        with self._understood():
            document: dict[str, Any] = json.loads(data)
            return document, document.get("mediaType") or answer.headers["Content-Type"]

    def blob(self, digest: str) -> bytes:
        """Return a small blob, such as a configuration. Raises RegistryError."""
        data = self._read(self._request("GET", f"blobs/{digest}", expected=(200,), preload=False))
        if digest_of(data) != digest:
            raise RegistryError(f"The registry {self.host} sent another blob than {digest}.")
        return data

    def has(self, digest: str) -> bool:
        return self._request("HEAD", f"blobs/{digest}", expected=(200, 404)).status == 200

    def upload(self, data: bytes | Path, digest: str) -> None:
        """Store a blob, if the repository does not have it. A file is streamed. Raises RegistryError."""
        if self.has(digest):
            return
        begun = self._request("POST", "blobs/uploads/", expected=(202,))
        with self._understood():
            location = urljoin(begun.url or self.url, begun.headers["Location"])
        target = f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        if isinstance(data, bytes):
            self._request("PUT", target, body=data, headers=headers, expected=(201,))
            return
        with data.open("rb") as file:
            self._request("PUT", target, body=file, headers=headers, expected=(201,))

    def copy(self, source: "Registry", descriptor: Mapping[str, Any], scratch: Path) -> None:
        """Copy a blob from another repository. ``scratch``: a folder for it. Raises RegistryError."""
        digest = str(descriptor["digest"])
        if self.has(digest):
            return
        if source.url == self.url:  # the registry may link the blob instead
            mount = urlencode({"mount": digest, "from": source.repository})
            if self._request("POST", f"blobs/uploads/?{mount}", expected=(201, 202)).status == 201:
                return
        path = scratch / digest.replace(":", "-")
        try:
            source.download(digest, path)
            self.upload(path, digest)
        finally:
            path.unlink(missing_ok=True)

    def download(self, digest: str, path: Path) -> None:
        """Write a blob to a file. Raises RegistryError, also for other content than the digest's."""
        found = hashlib.sha256()
        answer = self._request("GET", f"blobs/{digest}", expected=(200,), preload=False)
        try:
            with path.open("wb") as file:
                for chunk in answer.stream(_CHUNK_BYTES):
                    found.update(chunk)
                    file.write(chunk)
        except urllib3.exceptions.HTTPError as exc:
            raise self._unreachable(exc) from exc
        finally:
            answer.release_conn()
        if f"sha256:{found.hexdigest()}" != digest:
            raise RegistryError(f"The registry {self.host} sent another blob than {digest}.")

    def put_manifest(self, reference: str, document: Mapping[str, Any]) -> str:
        """Store a manifest under a tag and return its digest; its blobs come before. Raises RegistryError."""
        data = json.dumps(document, separators=(",", ":")).encode()
        if len(data) > _MAX_MANIFEST_BYTES:
            raise RegistryError("The package has too many files for one manifest of a registry.")
        headers = {"Content-Type": str(document["mediaType"])}
        self._request("PUT", f"manifests/{reference}", body=data, headers=headers, expected=(201,))
        return digest_of(data)

    def _request(
        self,
        method: str,
        path: str,
        *,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        preload: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        url = path if "://" in path else f"{self.url}/v2/{self.repository}/{path}"
        for first in (True, False):
            if hasattr(body, "seek"):
                body.seek(0)
            own = dict(headers or {})
            # A location may be on another host, a store that has the authorization in its URL.
            if self._authorization and urlsplit(url).netloc == self.host:
                own["Authorization"] = self._authorization
            try:
                answer = self._pool.request(method, url, body=body, headers=own, preload_content=preload)
            except urllib3.exceptions.HTTPError as exc:
                raise self._unreachable(exc) from exc
            if answer.status == 401 and first:
                answer.drain_conn()
                self._authorize(answer.headers.get("WWW-Authenticate", ""))
                continue
            break
        if answer.status in expected:
            return answer
        if answer.status in (401, 403):
            raise RegistryError(
                f"The registry {self.host} refuses access to {self.repository}: check the user name and the "
                "password, and that they may push there."
            )
        if answer.status == 404:
            raise RegistryError(f"The registry {self.host} does not have {self.repository} ({path[:100]}).")
        raise RegistryError(
            f"The registry {self.host} responded with {answer.status} to {method} for {self.repository}: "
            f"{answer.data[:200].decode(errors='replace').strip()}"
        )

    def _unreachable(self, exc: Exception) -> RegistryError:
        return RegistryError(f"The registry {self.host} cannot be reached: {type(exc).__name__}.")

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        """Return the body of a small answer."""
        try:
            data = answer.read(_MAX_MANIFEST_BYTES + 1)
        except urllib3.exceptions.HTTPError as exc:
            raise self._unreachable(exc) from exc
        finally:
            answer.close()
        if len(data) > _MAX_MANIFEST_BYTES:
            raise RegistryError(f"The registry {self.host} sent more than {_MAX_MANIFEST_BYTES:,} bytes.")
        return data

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise RegistryError for an answer that the specification does not allow."""
        try:
            yield
        except (KeyError, ValueError, TypeError, AttributeError) as exc:
            raise RegistryError(
                f"The registry {self.host} sent an answer that is not the protocol's. Is it an OCI registry?"
            ) from exc

    def _authorize(self, challenge: str) -> None:
        """Set the authorization that a 401 asks for. https://distribution.github.io/distribution/spec/auth/token/"""
        basic = None
        if self._credentials is not None:
            pair = f"{self._credentials.username}:{self._credentials.password}".encode()
            basic = f"Basic {base64.b64encode(pair).decode()}"
        if not challenge.lower().startswith("bearer"):
            self._authorization = basic
            return
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if urlsplit(fields.get("realm", "")).scheme not in ("https", urlsplit(self.url).scheme):
            raise RegistryError(f"The registry {self.host} has no usable address of its token service.")
        query = {"service": fields.get("service", ""), "scope": f"repository:{self.repository}:pull,push"}
        try:
            answer = self._pool.request(
                "GET",
                f"{fields['realm']}?{urlencode(query)}",
                headers={"Authorization": basic} if basic else {},
            )
        except urllib3.exceptions.HTTPError as exc:
            raise self._unreachable(exc) from exc
        if answer.status == 200:
            with self._understood():
                document = answer.json()
                self._authorization = f"Bearer {document.get('token') or document['access_token']}"
