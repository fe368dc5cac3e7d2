"""Every option, command and setting that a message of the code names exists."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from exporters.__main__ import _parser as exporters_parser
from exporters.options import SOURCE_OPTIONS
from exporters.registry import specifications
from model_service.cli.app import app
from model_service.config import Settings

ROOT = Path(__file__).parents[1]
# Options of other programs, which these modules run or tell about.
OTHER_PROGRAMS = {
    "--no-deps",  # pip
    "--verify",  # a package's Python wrapper
    "--replay",
    "--replSet",  # mongod
}
OTHERS = {"embedded/mongo.py", "embedded/redis.py", "embedded/binaries.py"}
# Variables of other programs, and those of ours that are no settings of the service.
VARIABLES = {
    "MODEL_SERVICE_URL",
    "MODEL_SERVICE_API_KEY",
    "MODEL_SERVICE_DEPLOYMENT_KEY",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "FLASK_ENV",
    "MONGODB_ADMIN_URL",
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-zA-Z-]*")
_COMMAND = re.compile(r"[`'](model-service [^`']+)[`']")
_SETTING = re.compile(r"(?<![A-Z_a-z.{%])[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+(?![\w(])")


def texts() -> Iterator[tuple[str, str]]:
    """Each module and each text in it that is no docstring, with ``{}`` for formatted values."""
    for folder in ("model_service", "exporters"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(file.read_text())
            docs = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            inner = {
                id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
            }
            for node in ast.walk(tree):
                text = _text(node)
                if text and id(node) not in docs | inner and " " in text:
                    yield str(file.relative_to(ROOT)), text


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def commands() -> dict[str, Any]:
    """Each command by its words."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: str) -> None:
        found[words] = command
        for name, each in getattr(command, "commands", {}).items():
            walk(each, f"{words} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


COMMANDS = commands()
ROOT_OPTIONS = options_of(COMMANDS[""]) | {"--help"}
OPTIONS = {name for command in COMMANDS.values() for name in options_of(command)} | {"--help"}
TEXTS = list(texts())


def test_there_are_messages_to_look_at() -> None:
    assert len(TEXTS) > 1000
    assert sum(bool(_COMMAND.search(text)) for _, text in TEXTS) > 10
    assert sum(bool(_SETTING.search(text)) for _, text in TEXTS) > 20


def test_every_option_that_a_message_names_exists() -> None:
    exporters = set(exporters_parser()._option_string_actions)
    for action in exporters_parser()._subparsers._group_actions[0].choices.values():  # type: ignore[union-attr]
        exporters |= set(action._option_string_actions)
    wrong = {
        (module, option)
        for module, text in TEXTS
        if not module.endswith(tuple(OTHERS))
        for option in _OPTION.findall(text)
        if option not in OPTIONS | OTHER_PROGRAMS | (exporters if module.startswith("exporters") else set())
    }
    assert wrong == set()


def test_every_command_that_a_message_names_exists_with_its_options() -> None:
    wrong = []
    for module, text in TEXTS:
        for written in _COMMAND.findall(text):
            words = shlex.split(written.replace("{}", "x"))[1:]
            path = ""
            while words and f"{path} {words[0]}".strip() in COMMANDS:
                path = f"{path} {words.pop(0)}".strip()
            known = options_of(COMMANDS[path]) | ROOT_OPTIONS
            given = [word for word in words if word.startswith("--")]
            if (not path and not given) or not known.issuperset(given):
                wrong.append((module, written))
    assert wrong == []


def test_every_setting_that_a_message_names_exists() -> None:
    settings = {name.upper() for name in Settings.model_fields} | VARIABLES
    metavars = {
        str(parameter.metavar).strip("[]") for command in COMMANDS.values() for parameter in command.params
    }
    wrong = {
        (module, name)
        for module, text in TEXTS
        for name in _SETTING.findall(text)
        if name not in settings | metavars
    }
    assert wrong == set()


@pytest.mark.parametrize("name", [*SOURCE_OPTIONS, "embed_preprocessing"])
def test_an_option_that_messages_of_the_exporters_name_is_one(name: str) -> None:
    assert any(name in each.options for each in specifications())
