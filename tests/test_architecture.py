"""The arrows of docs/architecture.md: which room may import which."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ANYWHERE = {
    "errors",
    "actor",
    "config",
    "config_types",
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
    "processes",
    "listening",
    "temporary_folder",
    "up_file",
    "tracing",
    "outgoing",
    "__init__",
}

# Readable with the standard library alone.
SPECIFICATIONS = {
    f"exporters.{module}"
    for module in (
        *("registry", "base", "options", "request", "errors", "processing", "datasets", "metrics"),
        *("optimize", "delivery"),
    )
}

# Room → what of ours it may import, besides itself and what may be imported anywhere.
ARROWS: dict[str, set[str]] = {
    **{room: set() for room in ANYWHERE},
    "client": set(),
    "cli": {"client", "embedded", "operate", "doctor"},
    "doctor": {"jobs", "storage", "server"},
    "operate": {"services", "storage"},
    "model_deployment_service": {"services", "jobs", "storage", "exporters.package", "exporters.errors"},
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
    "deployers": {"storage"},
    "storage": set(),
    "serving": {"storage", "server", "exporters"},
}
# The packages of a layer: each may import those before it. What stands right in the layer's folder puts
# them together, and may import all.
ORDER = {
    "services": (
        "common",
        "access",
        "webhooks",
        "models",
        "files",
        "datasets",
        "training",
        "exports",
        "evaluations",
        "gates",
        "deployments",
        "archive",
        "operations",
    ),
    "storage": (
        "common",
        "statistics",
        "access",
        "webhooks",
        "blobs",
        "versioned",
        "exports",
        "deployments",
        "models",
        "datasets",
        "training",
        "evaluations",
        "gates",
        "age_groups",
        "migrations",
        "operations",
    ),
    "api": (
        "schemas",
        "http",
        "access",
        "webhooks",
        "models",
        "files",
        "datasets",
        "training",
        "exports",
        "evaluations",
        "gates",
        "deployments",
        "operations",
    ),
    "serving": ("common", "accounting", "protocols", "model_hosts", "engine", "pool", "hosting", "http"),
    "cli": (
        "common",
        "access",
        "webhooks",
        "files",
        "models",
        "datasets",
        "training",
        "exports",
        "evaluations",
        "gates",
        "deployments",
        "inference",
        "operations",
    ),
}
# The module of a storage package with the types of its documents. The connection names the types of all
# collections, so any package may import these modules, and they import only one another.
DOCUMENTS = "documents"
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
# Stores are built in ``storage/stores.py``, except these: the first two belong to some processes, the others
# prepare the database before there are stores.
STORES = "storage/stores.py"
BUILT_ELSEWHERE = {
    "DiskSpace": {"services/__init__.py", "jobs/worker.py"},
    "RateWindows": {"serving/http/application.py"},
    "Runner": {"storage/migrations/__init__.py"},
    "Schema": {"storage/migrations/runner.py"},
    "Leases": {"storage/migrations/runner.py"},
    "Counters": {"storage/migrations/__init__.py"},
    "Downloads": {"storage/migrations/__init__.py"},
    "Scans": {"storage/migrations/m0004_scan_verdicts.py"},
}
HEAVY = {"torch", "onnx", "onnxscript", "onnxruntime", "tensorflow", "openvino", "coremltools", "sklearn"}

RUNS_CODE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}


def modules(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Every module of the service with its room: the package or the file right under model_service."""
    package = root / "model_service"
    for path in sorted(package.rglob("*.py")):
        first = path.relative_to(package).parts[0]
        yield path, first.removesuffix(".py")


def imports(path: Path, *, top_level: bool = False, root: Path = ROOT) -> Iterator[str]:
    """The modules a file imports, by their full names; relative imports are resolved."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    package = path.relative_to(root).with_suffix("").parts[:-1]
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


def against_the_arrows(root: Path = ROOT) -> list[str]:
    wrong = []
    for path, room in modules(root):
        allowed = ARROWS[room] | ANYWHERE | {room}
        for imported in imports(path, root=root):
            target = room_of(imported)
            if target == "__version__" or target is None:
                continue
            if target not in allowed and target.split(".")[0] not in allowed:
                wrong.append(f"{path.relative_to(root)} imports {imported}")
    return wrong


def against_the_order(layer: str, root: Path = ROOT) -> list[str]:
    """Imports of a package that comes later in its layer. Where there is none, there is no cycle either."""
    wrong = []
    folder = root / "model_service" / layer
    for path in sorted(folder.rglob("*.py")):
        package = path.relative_to(folder).parts[0]
        if package.endswith(".py"):
            continue
        allowed = ORDER[layer][: ORDER[layer].index(package) + 1]
        for imported in imports(path, root=root):
            parts = imported.split(".")
            if parts[:2] != ["model_service", layer] or (layer, parts[3:4]) == ("storage", [DOCUMENTS]):
                continue
            if parts[2] not in allowed:
                wrong.append(f"{path.relative_to(root)} imports {imported}")
    return wrong


def documents_with_imports(root: Path = ROOT) -> list[str]:
    """Imports of the modules of document types, which must not lead back to a package that uses them."""
    return [
        f"{path.relative_to(root)} imports {imported}"
        for path in sorted((root / "model_service" / "storage").glob(f"*/{DOCUMENTS}.py"))
        for imported in imports(path, root=root)
        if (parts := imported.split("."))[0] == "model_service"
        and parts[1] not in ANYWHERE
        and parts[3:4] != [DOCUMENTS]
    ]


def untyped_collections(root: Path = ROOT) -> list[str]:
    """Collections without a type of their documents, and collections opened beside those that have one."""
    storage = root / "model_service" / "storage"
    declarations = storage / "common" / "collections.py"
    types = {
        imported.rpartition(".")[2]
        for imported in imports(declarations, root=root)
        if imported.split(".")[3:4] == [DOCUMENTS]
    }
    wrong = [
        f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
        for node in ast.walk(ast.parse(declarations.read_text()))
        if isinstance(node, ast.AnnAssign) and "Collection" in ast.unparse(node.annotation)
        if not isinstance(node.annotation, ast.Subscript) or ast.unparse(node.annotation.slice) not in types
    ]
    for path in sorted(storage.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
                opened = ast.unparse(node.value)
                if opened.startswith("self._database[") and isinstance(node.targets[0], ast.Attribute):
                    wrong.append(f"{ast.unparse(node.targets[0])} = {opened}")
    return wrong


def store_classes(root: Path = ROOT) -> set[str]:
    """The classes of storage that are built on the database or on another store, with their subclasses."""
    classes = {
        node.name: node
        for path in sorted((root / "model_service" / "storage").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    needed = {
        name: {
            word.id
            for part in (*node.bases, *(each for each in node.body if is_constructor(each)))
            for word in ast.walk(part.args if isinstance(part, ast.FunctionDef) else part)
            if isinstance(word, ast.Name)
        }
        for name, node in classes.items()
    }
    found = {"Database"}
    while more := {name for name, names in needed.items() if names & found} - found:
        found |= more
    return found - {"Database", "Stores"}


def is_constructor(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def stores_built_elsewhere(root: Path = ROOT) -> list[str]:
    """Constructions of a store outside the composition root. A name counts where storage is its origin."""
    stores, wrong = store_classes(root), []
    package = root / "model_service"
    for path, room in modules(root):
        module = path.relative_to(package).as_posix()
        known = {
            parts[-1]
            for imported in imports(path, root=root)
            if (parts := imported.split("."))[:2] == ["model_service", "storage"]
        }
        tree = ast.parse(path.read_text())
        if room == "storage":
            known |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name in known & stores and module not in {STORES, *BUILT_ELSEWHERE.get(name, ())}:
                    wrong.append(f"{module} builds {name}")
    return wrong


def test_stores_are_built_in_one_place() -> None:
    assert stores_built_elsewhere() == []
    assert {"Audit", "Models", "Datasets", "HotModels", "Trash", "Workers"} <= store_classes()


def test_a_store_that_is_built_elsewhere_is_found(tmp_path: Path) -> None:
    """By a service, by another store, through a base class, and at any depth of an expression."""
    files = {
        "storage/common/audit.py": "class Audit:\n    def __init__(self, database: Database) -> None: ...\n",
        "storage/models/base.py": "class Base:\n    def __init__(self, kind: str, audit: Audit): ...\n",
        "storage/models/models.py": (
            "from model_service.storage.common.audit import Audit\n"
            "class Models(Base):\n    def get(self): return Audit(self.database)\n"
        ),
        "storage/stores.py": (
            "from model_service.storage.common.audit import Audit\n"
            "class Stores:\n    audit: Audit\n"
            "def build_stores(database): return Stores(Audit(database))\n"
        ),
        "services/models/models.py": (
            "from model_service.storage.models.models import Models\n"
            "class ModelService:\n    def __init__(self, database): self.models = [Models(None, database)]\n"
        ),
        "client/models.py": "class Models: ...\nmodels = Models()\n",
    }
    for name, text in files.items():
        path = tmp_path / "model_service" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert store_classes(tmp_path) == {"Audit", "Base", "Models"}
    assert stores_built_elsewhere(tmp_path) == [
        "services/models/models.py builds Models",
        "storage/models/models.py builds Audit",
    ]


def test_imports_point_one_way() -> None:
    assert against_the_arrows() == []


@pytest.mark.parametrize("layer", ORDER)
def test_the_packages_of_a_layer_have_an_order(layer: str) -> None:
    folders = {path.parent.name for path in (ROOT / "model_service" / layer).glob("*/__init__.py")}
    assert folders == set(ORDER[layer])
    assert against_the_order(layer) == []


@pytest.mark.parametrize(
    ("where", "imported", "check"),
    [
        ("storage/models/models.py", "model_service.services.models.models", against_the_arrows),
        ("client/client.py", "model_service.storage.common.db", against_the_arrows),
        (
            "services/common/ids.py",
            "model_service.services.models.models",
            partial(against_the_order, "services"),
        ),
        (
            "storage/blobs/blobs.py",
            "model_service.storage.models.models",
            partial(against_the_order, "storage"),
        ),
        (
            "storage/models/trash.py",
            "model_service.storage.stores",
            partial(against_the_order, "storage"),
        ),
    ],
)
def test_a_wrong_import_is_found(
    where: str, imported: str, check: Callable[..., list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "model_service" / where
    path.parent.mkdir(parents=True)
    path.write_text(f"from {imported} import Something\n")
    assert check(root=tmp_path) == [f"model_service/{where} imports {imported}.Something"]


def test_every_collection_has_a_type() -> None:
    assert untyped_collections() == []
    assert documents_with_imports() == []


def test_a_collection_without_a_type_is_found(tmp_path: Path) -> None:
    common = tmp_path / "model_service" / "storage" / "common"
    common.mkdir(parents=True)
    (common / "documents.py").write_text("from model_service.storage.common.db import Database\n")
    (common / "collections.py").write_text(
        "from model_service.storage.common.documents import Note, Fields\n"
        "class Collections:\n"
        "    notes: Collection[Note]\n"
        "    users: Collection[dict[str, object]]\n"
        "    scans: Collection[Any]\n"
        "    leases: Collection\n"
    )
    (common / "db.py").write_text("class Database:\n    def open(self): self.jobs = self._database['jobs']\n")
    assert untyped_collections(tmp_path) == [
        "users: Collection[dict[str, object]]",
        "scans: Collection[Any]",
        "leases: Collection",
        "self.jobs = self._database['jobs']",
    ]
    assert documents_with_imports(tmp_path) == [
        "model_service/storage/common/documents.py imports model_service.storage.common.db.Database"
    ]


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
