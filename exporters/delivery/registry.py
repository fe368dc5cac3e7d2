"""Push packages to OCI registries, without an engine, a builder or a privilege.

An image is a base image with one more layer, which is appended here: nothing runs inside. Blobs are stored
first and the manifest last, so a push that fails leaves no image behind.
"""

import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import archive
from .errors import DeliveryError
from .oci import INDEXES, MANIFEST, Registry, RegistryError, digest_of

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CHUNK_BYTES = 1 << 20
# https://github.com/modelpack/model-spec/blob/main/docs/spec.md
_MODEL = "application/vnd.cncf.model.manifest.v1+json"
_MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
_MODEL_PARTS = {
    "weight": "application/vnd.cncf.model.weight.v1.raw",
    "doc": "application/vnd.cncf.model.doc.v1.raw",
    "code": "application/vnd.cncf.model.code.v1.raw",
    "config": "application/vnd.cncf.model.weight.config.v1.raw",
}
_DESCRIBED = {"name": "model_name", "version": "version"}
_FILEPATH = "org.cncf.model.filepath"


@dataclass(frozen=True)
class Base:
    """The image that a layer is appended to. ``architecture`` selects one of an index."""

    registry: Registry
    reference: str = "latest"
    architecture: str = "amd64"


def push_server(package: Path, base: Base, target: Registry, tag: str) -> str:
    """Push an image that serves a container package of the form ``server``; return its digest.

    Args:
        package: the zip that ``container.write`` wrote.
        base: an image of linux that has granian and the requirements of the package; nothing is installed.

    Raises:
        DeliveryError: the zip is no container package with the server.
        RegistryError: a registry cannot be reached or refuses.
    """
    with zipfile.ZipFile(package) as zipped:
        if "server.py" not in zipped.namelist():
            raise DeliveryError("The archive is no container package of the form server.")
    settings: dict[str, Any] = {
        "Env": ["GRANIAN_INTERFACE=wsgi", "GRANIAN_HOST=0.0.0.0", "GRANIAN_PORT=8000", "PYTHONUNBUFFERED=1"],
        "WorkingDir": "/model",
        "ExposedPorts": {"8000/tcp": {}},
        "User": "10001:10001",
        "Entrypoint": None,
        "Cmd": ["granian", "server:application"],
    }
    return _push_image(package, "model", base, target, tag, settings)


def push_modelcar(package: Path, base: Base | None, target: Registry, tag: str) -> str:
    """Push an image with the package's files in ``/models``, for ``oci://`` of KServe; return its digest.

    ``base``: KServe starts ``sh`` in the image, so it needs an image with a shell; None: the files alone.

    Raises:
        RegistryError: a registry cannot be reached or refuses.
    """
    return _push_image(package, "models", base, target, tag, {})


def push_artefact(package: Path, target: Registry, tag: str) -> str:
    """Push an export package as a model of the ModelPack specification, one layer a file; return its digest.

    Raises:
        DeliveryError: the package is damaged or failed its comparison.
        RegistryError: the registry cannot be reached or refuses.
    """
    with archive.opened(package) as opened, tempfile.TemporaryDirectory() as scratch:
        layers = []
        for name in (*sorted(opened.digests), "manifest.json"):
            path = Path(scratch, "file")
            with opened.open(name) as source, path.open("wb") as file:
                digest, size = _copied(source, file)
            target.upload(path, digest)
            kind = _MODEL_PARTS[_kind(name, opened.artefact)]
            layers.append(
                {"mediaType": kind, "digest": digest, "size": size, "annotations": {_FILEPATH: name}}
            )
        info = opened.metadata["model_info"]
        config = _json(
            {
                "descriptor": {name: info.get(key) or "" for name, key in _DESCRIBED.items()},
                "config": {"format": opened.format},
                "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
            }
        )
        target.upload(config, digest_of(config))
        manifest = _manifest(_descriptor(_MODEL_CONFIG, config), layers)
        return target.put_manifest(tag, manifest | {"artifactType": _MODEL})


def _kind(name: str, artefact: list[str]) -> str:
    if name in artefact:
        return "weight"
    if name.endswith((".md", ".txt")) and "/" not in name:
        return "doc"
    return "code" if name.startswith("runtimes/") else "config"


def _push_image(
    package: Path, folder: str, base: Base | None, target: Registry, tag: str, settings: Mapping[str, Any]
) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        layer = Path(scratch, "layer.tar")
        digest, size = _write_layer(package, folder, layer)
        config: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        layers: list[dict[str, Any]] = []
        if base is not None:
            manifest = _image(base)
            config = json.loads(base.registry.blob(manifest["config"]["digest"]))
            layers = [{**one, "mediaType": _oci_layer(one["mediaType"])} for one in manifest["layers"]]
            for one in layers:
                target.copy(base.registry, one, Path(scratch))
        own: dict[str, Any] = config.get("config") or {}
        environment = dict(
            pair.partition("=")[::2] for pair in [*(own.get("Env") or ()), *settings.get("Env", ())]
        )
        config["config"] = {**own, **settings}
        if environment:
            config["config"]["Env"] = [f"{name}={value}" for name, value in environment.items()]
        config["rootfs"]["diff_ids"].append(digest)
        config.setdefault("history", []).append({"created_by": f"COPY package /{folder}"})
        target.upload(layer, digest)
        encoded = _json(config)
        target.upload(encoded, digest_of(encoded))
        layers.append({"mediaType": _LAYER, "digest": digest, "size": size})
        return target.put_manifest(tag, _manifest(_descriptor(_CONFIG, encoded), layers))


def _image(base: Base) -> dict[str, Any]:
    """Return the base's manifest for linux and its architecture."""
    document, kind = base.registry.manifest(base.reference)
    if kind in INDEXES:
        wanted = {"os": "linux", "architecture": base.architecture}
        found = [
            one["digest"]
            for one in document["manifests"]
            if wanted.items() <= one.get("platform", {}).items()
        ]
        if not found:
            raise RegistryError(
                f"The base image {base.registry.repository}:{base.reference} has no image for "
                f"linux/{base.architecture}."
            )
        document, _ = base.registry.manifest(found[0])
    if not isinstance(document.get("config"), dict) or not isinstance(document.get("layers"), list):
        raise RegistryError(f"{base.registry.repository}:{base.reference} is no image of a supported format.")
    return document


def _oci_layer(media_type: str) -> str:
    return media_type.replace("docker.image.rootfs.diff.tar.gzip", "oci.image.layer.v1.tar+gzip")


def _write_layer(package: Path, folder: str, path: Path) -> tuple[str, int]:
    """Write the files of a zip as a tar below ``folder``; return its digest and size.

    Equal zips give equal bytes.
    """
    with zipfile.ZipFile(package) as zipped, tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        folders = {folder}
        for name in zipped.namelist():
            parts = name.split("/")[:-1]
            folders |= {"/".join([folder, *parts[: depth + 1]]) for depth in range(len(parts))}
        for name in sorted(folders):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for info in sorted(zipped.infolist(), key=lambda one: one.filename):
            entry = tarfile.TarInfo(f"{folder}/{info.filename}")
            entry.size = info.file_size
            entry.mode = (info.external_attr >> 16) & 0o777 or 0o644
            with zipped.open(info) as source:
                tar.addfile(entry, source)
    with path.open("rb") as file:
        return _copied(file, None)


def _copied(source: Any, target: io.BufferedWriter | None) -> tuple[str, int]:
    """Return the digest and the size of what was read, and written to ``target``."""
    found, size = sha256(), 0
    read: Callable[[int], bytes] = source.read
    while chunk := read(_CHUNK_BYTES):
        found.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
    return f"sha256:{found.hexdigest()}", size


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _manifest(config: Mapping[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
