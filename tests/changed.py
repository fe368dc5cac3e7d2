"""Print the test files of what changed: ``python -m tests.changed [BASE]``, one per line.

A change is what differs from the commit where this branch left ``BASE`` (default: ``origin/main``, else
``main``), committed or not.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.test_architecture import ROOT, imports

ALWAYS = ("tests/test_architecture.py", "tests/test_docs.py")
_FOLDERS = ("model_service", "exporters", "tests")
_MOST_IMPORTERS = 8  # a module that more test files import is a foundation: its own tests answer first


def main(arguments: list[str]) -> None:
    for path in select(changed_files(*arguments)):
        print(path)


def changed_files(base: str | None = None, root: Path = ROOT) -> list[str]:
    """The files that differ, as paths from ``root``; those that are new to git too."""

    def git(*arguments: str) -> list[str]:
        return subprocess.run(
            ["git", *arguments], cwd=root, check=True, capture_output=True, text=True
        ).stdout.splitlines()

    known = git("for-each-ref", "--format=%(refname:short)", "refs/heads/main", "refs/remotes/origin/main")
    (left_at,) = git("merge-base", "HEAD", base or (max(known) if known else "HEAD"))
    return sorted({*git("diff", "--name-only", left_at), *git("ls-files", "--others", "--exclude-standard")})


def select(changed: Iterable[str], root: Path = ROOT) -> list[str]:
    """The test files of these Python files.

    Of a module: its namesakes, and what imports it. A module without either has the tests of the modules that
    import it. Of a helper of the tests: what imports it; of a ``conftest.py``: its folder.
    """
    graph = _Imports(root)
    found = {root / each for each in ALWAYS}
    for path in map(root.joinpath, changed):
        if path in graph.tests:
            found.add(path)
        elif path.name == "conftest.py":
            found |= {test for test in graph.tests if test.is_relative_to(path.parent)}
        elif path.suffix == ".py":
            found |= graph.tests_of(path)
    return [str(path.relative_to(root)) for path in sorted(found) if path.exists()]


class _Imports:
    """What imports what, of the product and its tests."""

    def __init__(self, root: Path) -> None:
        self._root = root
        files = [path for folder in _FOLDERS for path in (root / folder).rglob("*.py")]
        self._names = {path: set(imports(path, root=root)) for path in files}
        self.tests = {path for path in files if path.name.startswith("test_")}

    def tests_of(self, module: Path) -> set[Path]:
        asked, level = {module}, {module}
        while level:
            importers = {each: self._importers(each) for each in level}
            if found := set().union(*(self._own(each, importers[each] & self.tests) for each in level)):
                return found
            level = set().union(*importers.values()) - asked
            asked |= level
        return set()

    def _own(self, module: Path, importers: set[Path]) -> set[Path]:
        package = module.relative_to(self._root).parent.parts
        mirrored = self._root.joinpath("tests", *package[package[:1] == ("model_service",) :])
        namesakes = {test for test in self.tests if test.name == f"test_{module.name}"}
        own = {test for test in namesakes if test.is_relative_to(mirrored)}
        own = own or {test for test in namesakes if test.parent.name == module.parent.name}
        return own | importers if len(importers) <= _MOST_IMPORTERS else own

    def _importers(self, module: Path) -> set[Path]:
        name = ".".join(module.relative_to(self._root).with_suffix("").parts).removesuffix(".__init__")
        return {
            path
            for path, names in self._names.items()
            if any(f"{imported}.".startswith(f"{name}.") for imported in names)
        }


if __name__ == "__main__":
    main(sys.argv[1:])
