"""What of a package has to be the same whenever it is made."""

import json
from pathlib import Path

from exporters import package


def contents(folder: Path) -> dict[str, bytes]:
    """The files of the packages in ``folder`` by their paths, each package whole.

    Left out is what was measured: ``performance`` in metadata.json, and with it that file's digest, which the
    manifest holds.
    """
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.name == package.MANIFEST:
            package.verify(path.parent)
            continue
        if path.name == package.METADATA:
            document = json.loads(data)
            del document["performance"]
            data = json.dumps(document).encode()
        found[path.relative_to(folder).as_posix()] = data
    return found
