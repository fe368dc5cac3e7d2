"""The arrows of docs/architecture.md: which room may import which."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ANYWHERE = {
    "errors",
    "actor",
    "config",
    "states",
    "tiers",
    "latency",
    "metrics",
    "log",
    "metrics_folder",
    "sentences",
    "request_text",
    "wrong_keys",
    "signals",
    "listening",
    "__init__",
}

# Readable with the standard library alone.
SPECIFICATIONS = {
    f"exporters.{module}" for module in ("registry", "base", "options", "request", "errors", "processing")
}

# Room → what of ours it may import, besides itself and what may be imported anywhere.
ARROWS: dict[str, set[str]] = {
    **{room: set() for room in ANYWHERE},
    "client": set(),
    "cli": {"client", "embedded", "operate"},
    "operate": {"services", "storage"},
    "embedded": {"storage"},
    "guard": set(),
    "server": set(),
    "app": {"api", "services", "storage"},
    "api": {"app", "services", "server"},
    "services": {
        "jobs",
        "storage",
        "deployers",
        *SPECIFICATIONS,
    },
    "jobs": {"storage", "deployers", "exporters.package"},
    "deployers": set(),
    "storage": set(),
    "serving": {"storage", "server", "exporters"},
}
# Packages that only one room may know.
OWNERS = {
    "pymongo": {"storage", "embedded"},
    "bson": {"storage"},
    "gridfs": {"storage"},
    "rq": {"jobs"},
    "flask": {"api", "app"},
    "flask_openapi3": {"api", "app"},
    "granian": {"server"},
}
HEAVY = {"torch", "onnx", "onnxscript", "onnxruntime", "tensorflow", "openvino", "coremltools", "sklearn"}

RUNS_CODE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}


def modules() -> Iterator[tuple[Path, str]]:
    """Every module of the service with its room: the package or the file right under model_service."""
    package = ROOT / "model_service"
    for path in sorted(package.rglob("*.py")):
        first = path.relative_to(package).parts[0]
        yield path, first.removesuffix(".py")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """The modules a file imports, by their full names; relative imports are resolved."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(imported: str) -> str | None:
    parts = imported.split(".")
    if parts[0] == "model_service":
        return parts[1] if len(parts) > 1 else "__init__"
    return ".".join(parts[:2]) if parts[0] == "exporters" else None


def test_imports_point_one_way() -> None:
    wrong = []
    for path, room in modules():
        allowed = ARROWS[room] | ANYWHERE | {room}
        for imported in imports(path):
            target = room_of(imported)
            if target == "__version__" or target is None:
                continue
            if target not in allowed and target.split(".")[0] not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {imported}")
    assert wrong == []


def test_a_room_keeps_its_library_to_itself() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path, room in modules()
        for imported in imports(path)
        if room not in OWNERS.get(imported.split(".")[0], {room})
    ]
    assert wrong == []


def test_the_service_deserialises_nothing_that_could_run_code() -> None:
    """Checkpoints are opened by the exporters alone, in a child process that is confined."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path, _ in modules()
        for imported in imports(path)
        if imported.split(".")[0] in RUNS_CODE
    ]
    for path, _ in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"eval", "exec", "compile"}:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {ast.unparse(node.func)}")
            if isinstance(node, ast.keyword) and ast.unparse(node) == "allow_pickle=True":
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} allows pickle")
    assert wrong == []


def test_exporters_know_nothing_of_the_service() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in sorted((ROOT / "exporters").rglob("*.py"))
        for imported in imports(path)
        if imported.split(".")[0] == "model_service"
    ]
    assert found == []


def test_no_framework_is_imported_at_module_level() -> None:
    packages = [ROOT / "model_service", ROOT / "exporters"]
    found = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for package in packages
        for path in sorted(package.rglob("*.py"))
        for imported in imports(path, top_level=True)
        if imported.split(".")[0] in HEAVY
    ]
    assert found == []


@pytest.mark.parametrize("module", ["model_service.app", "model_service.jobs.__main__", "model_service.cli"])
def test_the_service_starts_without_a_framework(module: str) -> None:
    code = f"import sys, {module}; print(sorted(sys.modules.keys() & {HEAVY!r}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
