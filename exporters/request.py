"""The request for one conversion and its result; both are serialised as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import UnsupportedOption
from .options import with_article
from .processing.declared import class_names


@dataclass(frozen=True)
class Trust:
    """What a checkpoint may do while it is loaded; by default, nothing. The operator sets it."""

    unsafe_checkpoints: bool = False  # unpickle what no allow-list contains
    modules: tuple[str, ...] = ()  # import classes of these packages as architectures


@dataclass(frozen=True)
class ExportRequest:
    """One conversion. ``model`` is for metadata.json: name, version, framework, task_type, checksum."""

    source: Path
    output_dir: Path
    format: str
    options: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    classes: list[str] | None = None
    preprocessing: dict[str, Any] | None = None
    postprocessing: dict[str, Any] | None = None
    sample_inputs: Path | None = None
    limits: dict[str, int] | None = None
    allow_unsafe: bool = False
    allowed_modules: list[str] | None = None
    traceparent: str | None = None  # of W3C Trace Context: the events have its trace id

    @property
    def trust(self) -> Trust:
        return Trust(self.allow_unsafe, tuple(self.allowed_modules or ()))

    @property
    def trace_id(self) -> str | None:
        """The trace id of ``traceparent``; None if that is missing or malformed, which is no error."""
        match = _TRACEPARENT.fullmatch(self.traceparent or "")
        return match[1] if match else None

    @classmethod
    def from_json(cls, data: Any) -> ExportRequest:
        """Parse a request. Raises UnsupportedOption for a missing, unknown or wrongly typed field."""
        known = [f.name for f in fields(cls)]
        if not isinstance(data, dict):
            raise UnsupportedOption("The request is not a JSON object.", allowed=known)
        for name in data:
            if name not in known:
                raise UnsupportedOption(f"The request has an unknown field {name!r}.", allowed=known)
        for name in ("source", "output_dir", "format"):
            if not isinstance(data.get(name), str) or not data[name]:
                raise UnsupportedOption(
                    f"The request's field {name!r} is missing or no string.", allowed=known
                )
        for name, kind in _FIELD_TYPES.items():
            if data.get(name) is not None and not isinstance(data[name], kind):
                raise UnsupportedOption(
                    f"The request's {name!r} must be {with_article(_JSON_NAMES[kind])}.", allowed=known
                )
        if not all(isinstance(item, str) for item in data.get("allowed_modules") or []):
            raise UnsupportedOption("The request's 'allowed_modules' must be a list of texts.", allowed=known)
        return cls(
            source=Path(data["source"]),
            output_dir=Path(data["output_dir"]),
            format=data["format"],
            options=data.get("options") or {},
            model=data.get("model") or {},
            classes=class_names(data.get("classes")),
            preprocessing=data.get("preprocessing"),
            postprocessing=data.get("postprocessing"),
            sample_inputs=Path(data["sample_inputs"]) if data.get("sample_inputs") else None,
            limits=data.get("limits"),
            allow_unsafe=data.get("allow_unsafe") or False,
            allowed_modules=data.get("allowed_modules"),
            traceparent=data.get("traceparent"),
        )

    def to_json(self) -> dict[str, Any]:
        paths = {"source": str(self.source), "output_dir": str(self.output_dir)}
        samples = str(self.sample_inputs) if self.sample_inputs else None
        return {**asdict(self), **paths, "sample_inputs": samples}


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_FIELD_TYPES: dict[str, type] = {
    "options": dict,
    "model": dict,
    "preprocessing": dict,
    "postprocessing": dict,
    "sample_inputs": str,
    "limits": dict,
    "allow_unsafe": bool,
    "allowed_modules": list,
    "traceparent": str,
}
_JSON_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean"}


@dataclass(frozen=True)
class ExportResult:
    """The result of an export. ``performance`` is the result of ``measure``, which metadata.json has too."""

    package_dir: Path
    format: str
    verdict: str
    converter: str
    artefact: str
    artefact_size_bytes: int
    options: dict[str, Any]
    fidelity: dict[str, Any]
    performance: dict[str, Any]
    steps_s: dict[str, float]
    environment: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "package_dir": str(self.package_dir)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExportResult:
        return cls(**{**data, "package_dir": Path(data["package_dir"])})
