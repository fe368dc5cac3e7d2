"""What the documents say is what the code does."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from typer.main import get_command

from exporters import errors as exporter_errors
from exporters import registry
from model_service import errors
from model_service.app import create_app
from model_service.cli.app import app as cli
from model_service.config import Settings
from model_service.config_types import parse_size
from model_service.states import JobErrorCode

ROOT = Path(__file__).parent.parent
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "SECURITY", "CONTRIBUTING")),
    *(ROOT / "docs").glob("*.md"),
]
# Settings that depend on other values of the Helm chart.
SET_BY_THE_CHART = {
    *("HOST", "PORT", "WORKER_METRICS_PORT", "INFERENCE_HOST", "INFERENCE_PORT"),
    *("PUBLIC_URL", "INFERENCE_URL", "TRUSTED_PROXIES"),
    *("ENABLE_AUTH", "ALLOW_ANONYMOUS", "API_KEY", "SIGNING_SECRET"),
    *("MONGODB_URL", "MONGODB_DB", "REDIS_URL"),
    *("MODEL_SERVICE_HOME", "TIERS_FILE", "LOG_FORMAT"),
}
PATHS = r"`((?:model_service|exporters|scripts|docs|tests|examples|benchmarks)/[\w./]*)`"


def rows(text: str) -> dict[str, str]:
    """The first two cells of every table row whose first cell is one code."""
    found = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", text, re.MULTILINE)
    return {name: second.strip() for name, second in found}


def subclasses(root: type) -> Iterator[type]:
    yield root
    for child in root.__subclasses__():
        yield from subclasses(child)


def test_every_setting_is_documented_with_its_default() -> None:
    documented = rows(CONFIGURATION)
    assert set(documented) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown = documented[name.upper()].strip("`")
        default = field.default
        if default is None or isinstance(default, SecretStr):
            assert shown == "", name
        elif isinstance(default, bool):
            assert shown == str(default).lower(), name
        elif isinstance(default, int | float):
            assert parse_size(shown) == default if default >= 1 else float(shown) == default, name
        else:
            assert shown == str(default), name


def test_the_chart_sets_every_setting_or_accepts_it() -> None:
    """``config`` of the Helm chart rejects other names, so that a typing error does not stay unnoticed."""
    schema = json.loads((ROOT / "deploy" / "helm" / "model-service" / "values.schema.json").read_text())
    accepted = set(schema["properties"]["config"]["propertyNames"]["enum"])
    assert accepted & SET_BY_THE_CHART == set()
    assert accepted | SET_BY_THE_CHART == {name.upper() for name in Settings.model_fields}


def test_every_error_is_documented_with_its_status() -> None:
    documented = rows(API[API.index("## Errors") :])
    for error in subclasses(errors.ModelServiceError):
        assert documented[error.code] == str(error.status), error  # type: ignore[attr-defined]


def test_every_way_a_job_fails_is_documented() -> None:
    section = API[API.index("| `error_code` | meaning |") :].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) - {"error_code"} == set(JobErrorCode)


def test_every_code_of_a_job_is_in_the_enum() -> None:
    codes = {error.code for error in subclasses(exporter_errors.ExportError)}  # type: ignore[attr-defined]
    codes -= {exporter_errors.PackageCorrupt.code}  # of a package, not of a job
    assert codes <= set(JobErrorCode)
    source = "".join(path.read_text() for path in (ROOT / "model_service" / "jobs").glob("*.py"))
    assert re.findall(r'(?:code=|"error_code": |ConversionError\(\s*|give_up\(\w+, )"\w+"', source) == []


def test_every_route_is_documented(settings: Settings) -> None:
    paths = create_app(settings).api_doc["paths"]  # type: ignore[attr-defined]
    routes = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    assert [route for route in routes if f"`{route}`" not in API] == []


def test_every_export_option_is_documented() -> None:
    options = {name for specification in registry.specifications() for name in specification.options}
    assert [name for name in options if f"`{name}`" not in API] == []


def commands() -> Iterator[tuple[str, ...]]:
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                words = re.split(r"[#<>]", line)[0].rpartition(" -- ")[2]  # of kubectl exec
                words = re.sub(r" --url \S+", "", words).split()  # an option of every command
                if words and words[0].endswith("model-service"):
                    yield tuple(words[1:])


@pytest.mark.parametrize("words", sorted(set(commands())), ids=" ".join)
def test_every_command_in_the_documents_exists(words: tuple[str, ...]) -> None:
    command = get_command(cli)
    context = command.make_context("model-service", [], resilient_parsing=True)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest, parent=context)  # raises for a wrong option or argument


def every_command(command: Any, path: str = "") -> Iterator[str]:
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from every_command(each, f"{path}{name} ")
        elif not each.hidden:
            yield f"{path}{name}"


def test_every_command_is_documented() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    cells = re.findall(r"^\| (`.+?`) \| ", page, re.MULTILINE)
    documented = {
        " ".join(word for word in code.split() if not word.isupper() and "_" not in word)
        for cell in cells
        for code in re.findall(r"`([^`]+)`", cell)
    }
    assert documented == set(every_command(get_command(cli)))


def test_every_file_that_is_named_exists() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()) + re.findall(PATHS, page.read_text())
        if not (page.parent / target).exists() and not (ROOT / target).exists()
    ]
    assert missing == []


def test_the_map_of_contributing_names_a_place_and_a_test_in_each_row() -> None:
    table = CONTRIBUTING.partition("| to | look in | test with |\n")[2].partition("\n\n")[0].splitlines()[1:]
    tasks = {}
    for row in table:
        task, places, tests = (cell.strip() for cell in row.strip("|").split("|"))
        tasks[task] = re.findall(PATHS, places), re.findall(PATHS, tests)
    for task, (places, tests) in tasks.items():
        assert places, task
        assert tests, task
        assert all(test.startswith("tests/") for test in tests), task
    assert {
        "add a setting",
        "add a field to a model",
        "add an export format",
        "find why a job is retried",
        "change a rate limit",
        "add a route",
        "add a CLI command",
        "add an error code",
        "change a form of stored documents",
    } <= set(tasks)


def test_the_hooks_and_the_workflow_run_what_the_scripts_run() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]  # nothing is downloaded
    tools = [hook["entry"].removesuffix(" --force-exclude") for hook in hooks[0]["hooks"]]
    checks = [
        line for line in (ROOT / "scripts" / "check").read_text().splitlines() if line[:4] in ("ruff", "mypy")
    ]
    assert [tool.removeprefix(".venv/bin/") for tool in tools] == [line.removesuffix(" .") for line in checks]
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["ci"]["steps"]
    installed, run = (step["run"] for step in steps if "run" in step)
    assert run == "bash .ci/run"
    # The tests of their configurations are skipped without them.
    assert {"nginx", "prometheus", "prometheus-alertmanager", "docker-compose"} <= set(installed.split())


def test_the_licence_is_stated_once_and_whole() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "version" in project["dynamic"]  # of model_service/__init__.py, its only place
    assert project.get("version") is None


def test_the_glossary_defines_each_term_once() -> None:
    entries = re.findall(
        r"^\| (\*\*.+?\*\*) \| (.+) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
    )
    terms = [term.strip() for cell, _ in entries for term in cell.strip("*").split(",")]
    assert len(terms) > 60
    assert len(terms) == len(set(terms))
    for term, meaning in entries:
        assert 1 <= len(re.findall(r"[.!?](?= |$)", meaning)) <= 3, term


def test_every_test_that_is_named_exists() -> None:
    named = [
        found for page in PAGES for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text())
    ]
    assert named
    assert [pair for pair in named if f"def {pair[1]}(" not in (ROOT / pair[0]).read_text()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/client.md"])
def test_the_python_examples_are_correct_code(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    from model_service.client import ModelServiceClient

    for block in blocks:
        compile(block, page, "exec")
        for method in re.findall(r"client\.(\w+)\(", block):
            assert hasattr(ModelServiceClient, method), method


def test_the_three_walks_are_short_and_go_down() -> None:
    walks = ARCHITECTURE.partition("## Three walks")[2].partition("\n## ")[0].split("\n**")[1:]
    assert len(walks) == 3
    layers = ["api", "services", "storage"]
    for walk in walks:
        lines = [line for line in walk.splitlines() if line.strip()]
        assert len(lines) <= 13, lines[0]
        assert len(re.findall(PATHS, walk)) >= 8, lines[0]  # another test checks that they exist
        first = re.findall(r"^\d\. .*?`model_service/(api|services|storage)/", walk, re.MULTILINE)
        assert first == sorted(first, key=layers.index), lines[0]


def test_the_diagrams_are_there() -> None:
    """The parts, how a process is built, the life of an upload, the life of an export, the caches."""
    kinds = re.findall(r"```mermaid\n(\w+)", ARCHITECTURE)
    assert kinds == ["flowchart", "flowchart", "sequenceDiagram", "stateDiagram", "flowchart"]


def test_the_exporters_say_what_they_can() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "exporters", "capabilities"], capture_output=True, text=True, check=True
    )
    formats = json.loads(answer.stdout)["formats"]
    assert [entry["name"] for entry in formats if entry["available"]] == [
        *("onnx", "pickle", "torchscript", "openvino", "pt2", "tflite", "coreml", "pytorch")
    ]
    (tensorrt,) = (entry for entry in formats if not entry["available"])
    assert "build_on_target" in tensorrt["reason"]
