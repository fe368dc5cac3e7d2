"""The description of a dataset: its file, and the meaning of its arrays, columns and folders.

Standard library only: an API validates with it. The schema is an object; all its keys are optional.

    {"inputs": {"<model input>": "<array or column>" | ["<column>", ...]},
     "label": "<array or column>",
     "classes": ["cat", "dog"],        the position is the class id
     "task": "classification",         one of TASKS
     "annotations": "<path in zip>"}   the JSON of COCO annotations

Other keys are for people and are ignored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import UnsupportedOption

CLASSIFICATION = "classification"
REGRESSION = "regression"
RECONSTRUCTION = "reconstruction"  # the label of a row is its input
DETECTION = "detection"
SEGMENTATION = "segmentation"
TASKS = (CLASSIFICATION, REGRESSION, RECONSTRUCTION, DETECTION, SEGMENTATION)

# Format → the module of this package that reads it. Each has ``open_file(path, schema) -> reader.Reader``.
MODULES = {
    "npz": "npz",
    "parquet": "tables",
    "csv": "tables",
    "jsonl": "tables",
    "images": "images",
    "coco": "coco",
    "yolo": "yolo",
}
FORMATS = tuple(MODULES)

# The default names of a model's only input, and of the label.
INPUT_NAMES = ("x", "X", "inputs", "data", "images")
LABEL_NAMES = ("y", "label", "labels", "target")

# A word of a model's or dataset's task_type → the task. The first word found decides.
_TASK_WORDS = {
    "autoencoder": RECONSTRUCTION,
    "anomaly": RECONSTRUCTION,
    "reconstruction": RECONSTRUCTION,
    "detection": DETECTION,
    "segmentation": SEGMENTATION,
    "regression": REGRESSION,
    "classification": CLASSIFICATION,
    "classifier": CLASSIFICATION,
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_inputs(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(name) and (_is_text(what) or _is_texts(what)) for name, what in value.items()
    )


_KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "inputs": ("an object: input of the model → array, column, or list of columns", _is_inputs),
    "label": ("the name of an array or column", _is_text),
    "classes": (
        "a list of different names, the position is the class id",
        lambda value: _is_texts(value) and len(set(value)) == len(value),
    ),
    "task": (f"one of {', '.join(TASKS)}", lambda value: value in TASKS),
    "annotations": ("a path in the zip", _is_text),
}


@dataclass(frozen=True)
class DatasetFile:
    """A dataset as a request names it. ``path`` is its file; the other fields are those of the registry."""

    path: Path
    format: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    task_type: str | None = None
    name: str | None = None
    version: str | None = None
    checksum: str | None = None

    @classmethod
    def from_json(cls, data: Any, option: str = "dataset") -> "DatasetFile":
        """Raises UnsupportedOption: ``option`` names the field of the request."""
        texts = ("path", "format", "task_type", "name", "version", "checksum")
        if not isinstance(data, Mapping) or not set(data) <= {*texts, "schema"}:
            raise UnsupportedOption(
                f"{option} must be an object with the keys {', '.join([*texts, 'schema'])}.",
                allowed=[*texts, "schema"],
                option=option,
            )
        for name in texts:
            if not isinstance(data.get(name), str) and (name in texts[:2] or data.get(name) is not None):
                raise UnsupportedOption(
                    f"{option}.{name} is missing or no string.", allowed="a string", option=option
                )
        check_format(data["format"], option)
        check(data.get("schema"))
        return cls(Path(data["path"]), data["format"], data.get("schema") or {}, *map(data.get, texts[2:]))

    def to_json(self) -> dict[str, Any]:
        return {**self.describe(), "path": str(self.path), "schema": dict(self.schema)}

    def describe(self) -> dict[str, Any]:
        """Return the fields that a package and an evaluation keep."""
        return {
            "name": self.name,
            "version": self.version,
            "checksum": self.checksum,
            "format": self.format,
            "task_type": self.task_type,
        }


def check_format(name: Any, option: str = "format") -> None:
    """Raises UnsupportedOption: no loader reads this format of datasets."""
    if name not in FORMATS:
        raise UnsupportedOption(
            f"A dataset of the format {str(name)[:40]!r} cannot be loaded; those that can are "
            f"{', '.join(FORMATS)}.",
            allowed=list(FORMATS),
            option=option,
        )


def check(schema: Any) -> dict[str, Any]:
    """Return every known key of a schema; a missing one has the value None.

    Raises:
        UnsupportedOption: a value of the wrong form; ``option`` is ``schema.<key>``.
    """
    if schema is None:
        schema = {}
    if not isinstance(schema, Mapping):
        raise UnsupportedOption("schema must be an object.", allowed=list(_KEYS), option="schema")
    for name, (allowed, accepts) in _KEYS.items():
        if schema.get(name) is not None and not accepts(schema[name]):
            raise UnsupportedOption(
                f"schema.{name} must be {allowed}.", allowed=allowed, option=f"schema.{name}"
            )
    return {name: schema.get(name) for name in _KEYS}


def warnings(schema: Mapping[str, Any] | None) -> list[str]:
    """Return a sentence for each key that looks like a misspelt one."""
    found = []
    for name in schema or {}:
        close = get_close_matches(str(name), _KEYS, n=1, cutoff=0.75)
        if close and name not in _KEYS:
            found.append(f"The schema's key {str(name)[:40]!r} is ignored. Did you mean {close[0]!r}?")
    return found


def task_of(
    schema: Mapping[str, Any] | None, *task_types: str | None, label_kind: str | None = None
) -> str | None:
    """Return the task: the schema's, otherwise that of the first task_type which names one.

    Args:
        task_types: of the dataset, then of the model; ``image_classification`` names classification.
        label_kind: the dtype of the labels or its first letter, or ``boxes``; it decides last.
    """
    given: str | None = (schema or {}).get("task")
    if given:
        return given
    for text in task_types:
        words = (text or "").lower()
        for word, task in _TASK_WORDS.items():
            if word in words:
                return task
    if label_kind is None:
        return None
    if label_kind == "boxes":
        return DETECTION
    return REGRESSION if label_kind.startswith("f") else CLASSIFICATION
