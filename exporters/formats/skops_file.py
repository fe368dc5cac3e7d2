"""Write a ``.skops`` file so that equal estimators are equal bytes.

skops names arrays by their memory address or a random id, and stores dates. Here they are numbered in the
order in which the schema names them, and dated 1980.
"""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
_SCHEMA = "schema.json"


def write(estimator: Any, path: Path) -> None:
    """Write the file. Raises skops' own errors for an object that it cannot store."""
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        members = {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA}
    ids: dict[int, int] = {}
    names: dict[str, str] = {}
    canonical = _canonical(schema, members, ids, names)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, _SCHEMA, json.dumps(canonical, indent=1).encode())
        for theirs, ours in names.items():
            _add(archive, ours, members[theirs])


def _canonical(value: Any, members: dict[str, bytes], ids: dict[int, int], names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_canonical(part, members, ids, names) for part in value]
    if isinstance(value, str) and value in members:
        return names.setdefault(value, f"{len(names)}{re.sub(r'^.*(?=[.])', '', value)}")
    if not isinstance(value, dict):
        return value
    done = {key: _canonical(part, members, ids, names) for key, part in value.items() if key != "__id__"}
    if "__id__" in value:
        done["__id__"] = ids.setdefault(value["__id__"], len(ids) + 1)
    return done


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o644 << 16
    info.create_system = 3
    archive.writestr(info, content)
