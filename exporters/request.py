"""The request for one conversion and its result; both are serialised as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from . import metrics
from .datasets.schema import DatasetFile
from .errors import UnsupportedOption
from .options import with_article
from .processing.declared import class_names


@dataclass(frozen=True)
class Trust:
    """What a checkpoint may do while it is loaded; by default, nothing. The operator sets it."""

    unsafe_checkpoints: bool = False  # unpickle what no allow-list contains
    modules: tuple[str, ...] = ()  # import classes of these packages as architectures


@dataclass(frozen=True)
class Validation:
    """Metrics of source and artefact on a dataset. ``samples`` rows are drawn with ``seed``; None: all rows.

    ``metrics`` None: those of the dataset's task. ``fail_threshold``: ``{"accuracy_drop_max": 0.02}``.
    """

    dataset: DatasetFile
    metrics: list[str] | None = None
    fail_threshold: dict[str, float] | None = None
    samples: int | None = None
    seed: int = 0

    @classmethod
    def from_json(cls, data: Any, option: str = "validation") -> Validation:
        """Raises UnsupportedOption: ``option`` names the field of the request."""
        known = [item.name for item in fields(cls)]
        if not isinstance(data, Mapping) or not set(data) <= set(known):
            raise UnsupportedOption(
                f"{option} must be an object with {', '.join(known)}.", allowed=known, option=option
            )
        seed = data.get("seed")
        done = cls(
            DatasetFile.from_json(data.get("dataset"), f"{option}.dataset"),
            data.get("metrics"),
            data.get("fail_threshold"),
            data.get("samples"),
            0 if seed is None else seed,
        )
        done.check(option)
        return done

    def check(
        self, option: str = "validation", task: str | None = None
    ) -> tuple[list[str], dict[str, float]]:
        """Return the metrics and, by metric, the largest drop that passes.

        Raises:
            UnsupportedOption: a value that is invalid, or does not fit the task.
        """
        for name, value, least in (("samples", self.samples, 1), ("seed", self.seed, 0)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                allowed = f"a whole number from {least}"
                raise UnsupportedOption(f"{option}.{name} must be {allowed}.", allowed=allowed, option=option)
        names = metrics.check(self.metrics, task, f"{option}.metrics")
        thresholds = metrics.check_thresholds(self.fail_threshold, names or None, f"{option}.fail_threshold")
        return names, thresholds

    def to_json(self) -> dict[str, Any]:
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**own, "dataset": self.dataset.to_json()}


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
    optimization: dict[str, Any] | None = None  # see ``optimize.check``
    training_dir: Path | None = None  # of the state of a training, which a later run continues
    limits: dict[str, int] | None = None
    allow_unsafe: bool = False
    allowed_modules: list[str] | None = None
    validation: Validation | None = None
    traceparent: str | None = None  # of W3C Trace Context: the events have its trace id

    @property
    def trust(self) -> Trust:
        return Trust(self.allow_unsafe, tuple(self.allowed_modules or ()))

    @property
    def trace_id(self) -> str | None:
        return trace_id(self.traceparent)

    @classmethod
    def from_json(cls, data: Any) -> ExportRequest:
        """Parse a request. Raises UnsupportedOption for a missing, unknown or wrongly typed field."""
        check_fields(data, [f.name for f in fields(cls)], ("source", "output_dir", "format"))
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
            optimization=data.get("optimization"),
            training_dir=Path(data["training_dir"]) if data.get("training_dir") else None,
            limits=data.get("limits"),
            allow_unsafe=data.get("allow_unsafe") or False,
            allowed_modules=data.get("allowed_modules"),
            validation=Validation.from_json(data["validation"]) if data.get("validation") else None,
            traceparent=data.get("traceparent"),
        )

    def to_json(self) -> dict[str, Any]:
        paths = {"source": str(self.source), "output_dir": str(self.output_dir)}
        samples = str(self.sample_inputs) if self.sample_inputs else None
        paths |= {"training_dir": str(self.training_dir)} if self.training_dir else {}
        validation = self.validation.to_json() if self.validation else None
        return {**asdict(self), **paths, "sample_inputs": samples, "validation": validation}


def check_fields(data: Any, known: Sequence[str], needed: Iterable[str]) -> None:
    """Check the names and types of a request's fields; ``needed`` are texts.

    Raises:
        UnsupportedOption: a missing, unknown or wrongly typed field.
    """
    allowed = list(known)
    if not isinstance(data, dict):
        raise UnsupportedOption("The request is not a JSON object.", allowed=allowed)
    for name in data:
        if name not in known:
            raise UnsupportedOption(f"The request has an unknown field {name!r}.", allowed=allowed)
    for name in needed:
        if not isinstance(data.get(name), str) or not data[name]:
            raise UnsupportedOption(f"The request's field {name!r} is missing or no string.", allowed=allowed)
    for name, kind in _FIELD_TYPES.items():
        if data.get(name) is not None and not isinstance(data[name], kind):
            raise UnsupportedOption(
                f"The request's {name!r} must be {with_article(_JSON_NAMES[kind])}.", allowed=allowed
            )
    if not all(isinstance(item, str) for item in data.get("allowed_modules") or []):
        raise UnsupportedOption("The request's 'allowed_modules' must be a list of texts.", allowed=allowed)


def trace_id(traceparent: Any) -> str | None:
    """Return the trace id; None if ``traceparent`` is missing or malformed, which is no error."""
    match = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return match[1] if match else None


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_FIELD_TYPES: dict[str, type] = {
    "options": dict,
    "model": dict,
    "preprocessing": dict,
    "postprocessing": dict,
    "sample_inputs": str,
    "optimization": dict,
    "training_dir": str,
    "limits": dict,
    "allow_unsafe": bool,
    "allowed_modules": list,
    "validation": dict,
    "traceparent": str,
}
_JSON_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean"}


@dataclass(frozen=True)
class ExportResult:
    """The result of an export. ``performance`` is the result of ``measure``, which metadata.json has too.

    ``validation``: the summary of validation_results.json; None without a dataset.
    """

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
    validation: dict[str, Any] | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    optimization: dict[str, Any] = field(default_factory=dict)  # see ``optimize.pipeline.stats``

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "package_dir": str(self.package_dir)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExportResult:
        return cls(**{**data, "package_dir": Path(data["package_dir"])})
