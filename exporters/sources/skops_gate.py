"""Read a ``.skops`` file: an archive of arrays and a ``schema.json`` that describes the objects to build.

skops lets its caller choose the trusted types. Here they are the types that are allowed in pickles. Each
entry of the schema is checked together with the node class that builds it, because skops by itself would
trust more, such as functions and methods.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InvalidSource, UnsafeCheckpoint, as_limit
from . import boosters
from .compressed import LIMIT_BYTES
from .estimator_globals import CLASSES, FUNCTIONS, NUMERIC, VALUES, why_refused
from .objects import walk
from .pickle_gate import require_attributes
from .pickle_values import Rejected

_CHECK = ("sklearn.utils.validation", "check_array", "FunctionNode")
_PLAIN = {
    ("builtins", "dict", "DictNode"),
    ("builtins", "list", "ListNode"),
    ("builtins", "set", "SetNode"),
    ("builtins", "tuple", "TupleNode"),
    ("builtins", "slice", "SliceNode"),
    ("builtins", "str", "JsonNode"),
    ("builtins", "bytes", "BytesNode"),
    ("builtins", "bytearray", "BytearrayNode"),
    ("collections", "OrderedDict", "DictNode"),
    ("collections", "OrderedDict", "TypeNode"),
    ("collections", "defaultdict", "DefaultDictNode"),
    ("functools", "partial", "PartialNode"),  # ``native_state`` checks the function
    _CHECK,
    ("sklearn.utils._bunch", "Bunch", "DictNode"),
    ("numpy", "ndarray", "NdArrayNode"),
    ("numpy", "dtype", "DTypeNode"),
    ("numpy.ma", "MaskedArray", "MaskedArrayNode"),
    ("numpy.random.mtrand", "RandomState", "RandomStateNode"),
    ("numpy.random._generator", "Generator", "RandomGeneratorNode"),
    ("sklearn.tree._tree", "Tree", "TreeNode"),
    *(("sklearn.neighbors._kd_tree", name, "ObjectNode") for name in ("KDTree", "KDTree64")),
    *(("sklearn.neighbors._ball_tree", name, "ObjectNode") for name in ("BallTree", "BallTree64")),
    *(
        ("sklearn.metrics._dist_metrics", f"{name}Distance64", "ObjectNode")
        for name in ("Euclidean", "Manhattan", "Chebyshev", "Minkowski")
    ),
}
# The node classes that build an entry → the names allowed for it.
_BUILDERS = {
    "ObjectNode": CLASSES,
    "LossNode": NUMERIC,
    "SGDNode": NUMERIC,
    "TypeNode": VALUES | CLASSES,
    "NdArrayNode": VALUES,
    "FunctionNode": frozenset(
        name
        for name in VALUES
        if name[0].startswith("sklearn.feature_selection.") or name[1] in (*FUNCTIONS, "mean", "asarray")
    ),
}
# The part of a booster's state that native code reads, and the node class that builds it.
_BOOSTERS = {
    ("lightgbm.basic", "Booster"): ("_handle", "JsonNode"),
    ("xgboost.core", "Booster"): ("handle", "BytearrayNode"),
}
_SCHEMA_LIMIT_BYTES = 256 << 20


def load(path: Path) -> Any:
    """Return the object in the file.

    Raises:
        UnsafeCheckpoint: it names a type that is not allowed; ``details`` has the name.
        InvalidSource: damaged, or larger when unpacked than any real file.
    """
    import skops.io

    try:
        trusted = check(path)
        loaded = skops.io.load(path, trusted=sorted(trusted))
        for part in walk(loaded):
            require_attributes(type(part), dict(getattr(part, "__dict__", {})))
        return loaded
    except (UnsafeCheckpoint, InvalidSource):
        raise
    except Rejected as exc:
        raise _refusal(str(exc)) from exc
    except zipfile.BadZipFile as exc:
        raise InvalidSource("The .skops file is damaged. Upload it again.") from exc
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The .skops file is not readable: {str(exc).strip()[:200]}. Write it with the "
            "installed versions of scikit-learn and skops, or older ones."
        ) from exc


def check(path: Path) -> set[str]:
    """Return the types that the file names, all of them allowed. Reads the schema, and builds nothing.

    Raises:
        UnsafeCheckpoint, InvalidSource: as ``load``.
        ValueError, KeyError, OSError: it is no archive of skops.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > LIMIT_BYTES:
            raise InvalidSource(f"The .skops file unpacks to more than {LIMIT_BYTES:,} bytes.")
        if len({member.filename for member in members}) != len(members):
            raise InvalidSource(
                "The .skops file contains the same name twice, which skops.io.dump never writes."
            )
        if archive.getinfo("schema.json").file_size > _SCHEMA_LIMIT_BYTES:
            raise InvalidSource("The schema of the .skops file is too large.")
        schema = json.loads(archive.read("schema.json"))
        return _trusted(schema, archive)


def _trusted(schema: Any, archive: zipfile.ZipFile) -> set[str]:
    trusted = set()
    entries = list(_entries(schema))
    # If several entries have the same id, skops uses the first one for all of them.
    others = {entry.get("__id__") for entry in entries if _named(entry) != _CHECK}
    for entry in entries:
        module, name, builder = _named(entry)
        known = (module, name, builder) in _PLAIN or (module, name) in _BUILDERS.get(str(builder), ())
        if not known and builder != "CachedNode":
            raise _refusal(f"{module}.{name} ({builder})")
        if (module, name) in _BOOSTERS and builder == "ObjectNode":
            _check_booster(entry, schema, archive)
        if builder == "PartialNode" and not _is_check(entry, others):
            raise _refusal("functools.partial (PartialNode)")
        trusted.add(f"{module}.{name}")
    return trusted


def _is_check(entry: dict[str, Any], others: set[Any]) -> bool:
    """Return whether a partial calls ``check_array``. ``others``: ids of entries of anything else."""
    content = entry.get("content")
    function = content.get("func") if isinstance(content, dict) else None
    return isinstance(function, dict) and _named(function) == _CHECK and function.get("__id__") not in others


def _named(entry: dict[str, Any]) -> tuple[Any, Any, Any]:
    return entry.get("__module__"), entry.get("__class__"), entry.get("__loader__")


_ADVICE = "Only estimators of scikit-learn, XGBoost and LightGBM, and their parts, can be loaded."


def _refusal(what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"The .skops file contains {what[:120]}, which is refused: {why_refused(what, _ADVICE)}",
        refused=what[:120],
    )


def _check_booster(entry: dict[str, Any], schema: Any, archive: zipfile.ZipFile) -> None:
    """Check that a booster contains its own model: skops passes it to native code while loading."""
    handle, loader = _BOOSTERS[_named(entry)[:2]]
    content = entry.get("content")
    content = content if isinstance(content, dict) else {}
    state = content.get("content")
    state = state if isinstance(state, dict) else {}
    model = state.get(handle)
    model = model if isinstance(model, dict) else {}
    loaders = (content.get("__loader__"), model.get("__loader__"))
    if loaders != ("DictNode", loader) or {"handle", "_handle"} & state.keys() != {handle}:
        raise _refusal("a Booster without its model")
    numbers = [one.get("__id__") for one in _entries(schema) if one.get("__loader__") != "CachedNode"]
    ours = [one["__id__"] for one in (entry, content, model) if one.get("__id__") is not None]
    if any(numbers.count(one) > 1 for one in ours):
        raise _refusal("a Booster that occurs twice")
    if loader == "JsonNode":
        boosters.check_lightgbm(json.loads(model["content"]))
    else:
        boosters.check_xgboost(archive.read(model["file"]))


def _entries(document: Any) -> Iterator[dict[str, Any]]:
    todo = [document]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if "__loader__" in value or "__class__" in value or "__module__" in value:
                yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value
