"""Change the schema of a ``.skops`` file."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rewrite(good: Path, bad: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Copy ``good`` to ``bad`` with the schema that ``change`` has changed in place."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for member in source.namelist():
            content = source.read(member)
            if member == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            target.writestr(member, content)
