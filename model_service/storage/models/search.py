"""Derived search fields of a model document: word stems, and metrics in a comparable form.

``terms`` are the stems of searchable words. They replace MongoDB's text index, which cannot be combined with
a sort by time and a cursor, and of which a collection can have only one.

``metric_order`` has a 20-byte key for each numeric metric: the value as a float64 whose bytes sort like the
number, then the document's id. The keys form a total order without ties, so one wildcard index serves
thresholds, sorting and cursors on any metric, without knowing the names of metrics in advance.
"""

import math
import re
import struct
import threading
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import snowballstemmer  # type: ignore[import-untyped]
from bson import ObjectId

from model_service.storage.models.documents import Derived, UnlistedModel

METRIC_ORDER = "metric_order"
EVALUATIONS = "evaluations."
MAX_TERMS = 256
MAX_METRICS = 200
MAX_TERM_CHARS = 64
MAX_PATH_CHARS = 256

_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "in", "is", "it", "its",
    "of", "on", "or", "that", "the", "this", "to", "was", "were", "with",
})  # fmt: skip
_LOWEST = bytes(12)
_HIGHEST = b"\xff" * 12
_local = threading.local()


def derived_fields(document: UnlistedModel) -> Derived:
    """Return the derived fields of a model document, computed on every insert and change.

    Args:
        document: complete, with its ``_id``.
    """
    return {"terms": _terms(document), "metric_order": _metric_order(document)}


def words(text: str) -> list[str]:
    """Return the stems of a text's words in order, without repetition, as stored in ``terms``.

    A compound (``fraud_detection_v2``) is split into its parts, so that ``fraud-detection`` finds it too.
    """
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return list(dict.fromkeys(_stem(word[:MAX_TERM_CHARS]) for word in found if word not in _STOP_WORDS))


def metric_field(path: str) -> str:
    """Return the field of a metric's key. Dots in names and dots of nesting are not distinguished."""
    escaped = path.replace("%", "%25").replace(".", "%2E").replace("$", "%24")
    return f"{METRIC_ORDER}.{escaped or '%'}"


def metric_key(value: float, model_id: ObjectId) -> bytes:
    return _comparable(value) + model_id.binary


def metric_at_least(value: float) -> bytes:
    """Return a bound that is not above the key of any document with that value."""
    return _comparable(value) + _LOWEST


def metric_at_most(value: float) -> bytes:
    """Return a bound that is not below the key of any document with that value."""
    return _comparable(value) + _HIGHEST


def numeric_metrics(metrics: object) -> dict[str, float]:
    """Return the numeric metrics by dotted path; ``accuracy`` defaults to ``test_accuracy``."""
    found: dict[str, float] = {}
    for path, value in _flatten(metrics, ""):
        if len(found) == MAX_METRICS:
            break
        found.setdefault(path, value)
    if "accuracy" not in found and "test_accuracy" in found:
        found["accuracy"] = found["test_accuracy"]
    return found


def evaluated_metrics(document: UnlistedModel) -> dict[str, float]:
    """Return the metrics of the version's last evaluations, by ``evaluations.DATASET/VERSION.METRIC``."""
    return {
        f"{EVALUATIONS}{shown['dataset_name']}/{shown['dataset_version']}.{metric}": value
        for shown in document.get("evaluations", ())
        for metric, value in shown["metrics"].items()
    }


def _terms(document: UnlistedModel) -> list[str]:
    """Return the words of names and tags, then of the description, up to MAX_TERMS."""
    texts = [document.get("name"), document.get("algorithm"), document.get("framework")]
    texts += [document.get("task_type"), document.get("created_by")]
    texts += [*document.get("tags", ()), document.get("description")]
    found = dict.fromkeys(word for text in texts if text for word in words(text))
    return sorted(list(found)[:MAX_TERMS])


def _metric_order(document: UnlistedModel) -> dict[str, bytes]:
    prefix = len(f"{METRIC_ORDER}.")
    metrics = numeric_metrics(document.get("metrics")) | evaluated_metrics(document)
    return {
        metric_field(path)[prefix:]: metric_key(value, document["_id"]) for path, value in metrics.items()
    }


def _flatten(value: object, path: str) -> Iterator[tuple[str, float]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _flatten(inner, f"{path}.{key}" if path else key)
        case bool():
            return
        case "Infinity":  # its form in JSON
            yield from _flatten(math.inf, path)
        case "-Infinity":
            yield from _flatten(-math.inf, path)
        case int() | float() if len(path) <= MAX_PATH_CHARS and not math.isnan(value):
            yield path, float(value)


def _comparable(value: float) -> bytes:
    """Return 8 bytes that sort like the numbers: sign bit flipped; all bits flipped for negative numbers."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))  # -0.0 + 0.0 is 0.0
    return struct.pack(">Q", bits ^ (2**64 - 1 if bits >> 63 else 1 << 63))


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """Return the stem of a word. A stemmer keeps state while it works, so each thread has its own."""
    stemmer = getattr(_local, "stemmer", None)
    if stemmer is None:
        stemmer = _local.stemmer = snowballstemmer.stemmer("english")
    return str(stemmer.stemWord(word))
