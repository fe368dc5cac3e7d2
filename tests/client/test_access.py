"""People and their credentials, through the client and the commands, against a service that asks."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from model_service.client import ModelServiceClient, NotFound, NotPermitted, Unauthorized
from model_service.config import Settings

from .cli.test_cli import forked, run
from .conftest import Shared

ROOT_KEY = "correct horse battery staple"
PASSWORD = "a long enough password"


@pytest.fixture
def secured(settings: Settings, shared: Callable[..., Shared]) -> Iterator[str]:
    with shared(ENABLE_AUTH="true", API_KEY=ROOT_KEY, RATE_LIMITS="off").lent() as service:
        yield service.url


@pytest.fixture
def root(secured: str) -> Iterator[ModelServiceClient]:
    with ModelServiceClient(secured, ROOT_KEY) as client:
        yield client


def test_a_user_signs_in_and_makes_a_key_for_less(root: ModelServiceClient, secured: str) -> None:
    user = root.create_user("alice", password=PASSWORD, namespaces={"vision": ["writer"]})
    assert (user.roles, user.namespaces) == ((), {"vision": ["writer"]})
    alice = ModelServiceClient(secured)
    with pytest.raises(Unauthorized):
        alice.login("alice", "a wrong password")
    session = alice.login("alice", PASSWORD)
    assert session.token not in repr(session)
    assert alice.whoami().namespaces == {"vision": ["read", "write"]}
    model_id = alice.register_model(name="vision/digits", algorithm="cnn")
    with pytest.raises(NotPermitted):
        alice.register_model(name="speech/words", algorithm="cnn")
    assert [(each.namespace, each.models) for each in alice.list_namespaces()] == [("vision", 1)]

    in_an_hour = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    key = alice.create_key("ci", ["read"], namespaces=["vision"], expires_at=in_an_hour)
    assert key.key is not None
    assert key.key not in repr(key)
    assert (key.scopes, key.namespaces, key.expires_at) == (("read",), ("vision",), in_an_hour)
    ci = ModelServiceClient(secured, key.key)
    assert ci.get_model("models:/vision/digits/latest").id == model_id
    with pytest.raises(NotPermitted):
        ci.delete_model(model_id)
    rotated = alice.rotate_key(key.id)
    with pytest.raises(Unauthorized):
        ci.whoami()
    assert ModelServiceClient(secured, rotated.key).whoami().key_id == key.id
    assert [each.key for each in alice.list_keys()] == [None]
    assert alice.get_key(key.id).prefix is not None
    alice.delete_key(key.id)
    assert root.list_keys(owner="alice").total == 0

    alice.change_password(PASSWORD, PASSWORD + "!")
    with pytest.raises(Unauthorized):
        alice.whoami()
    alice.login("alice", PASSWORD + "!")
    alice.logout()
    with pytest.raises(Unauthorized):
        alice.whoami()


def test_an_administrator_rules_users_and_reads_what_they_did(root: ModelServiceClient) -> None:
    root.create_user("robot", roles=["reader"])
    assert root.update_user("robot", roles=["writer"], disabled=True).roles == ("writer",)
    assert [user.name for user in root.list_users()] == ["robot"]
    assert root.get_user("robot").disabled
    root.delete_user("robot")
    with pytest.raises(NotFound):
        root.get_user("robot")
    first = root.read_audit_log(kind="user", limit=1)
    assert (first.entries[0].subject_id, len(first.entries)) == ("robot", 1)
    rest = root.read_audit_log(kind="user", cursor=first.next_cursor)
    assert {entry.id for entry in rest.entries}.isdisjoint({first.entries[0].id})
    assert len(rest.entries) == 2
    later = datetime.now(UTC) + timedelta(days=1)
    assert root.read_audit_log(since=later).entries == ()


class Shell:
    """``model-service`` of one person, with a configuration folder of their own."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home

    def __call__(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return run(*words, url=self.url, XDG_CONFIG_HOME=str(self.home), **env)

    def json(self, *words: str, **env: str) -> Any:
        done = self(*words, "--json", **env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def typing(self, given: str, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        env = dict(os.environ) | {"MODEL_SERVICE_URL": self.url, "XDG_CONFIG_HOME": str(self.home)} | env
        return forked(*words, env=env, given=given)


@pytest.fixture
def shell(secured: str, tmp_path: Path) -> Shell:
    return Shell(secured, tmp_path / "config")


def test_a_person_signs_in_once_for_all_commands(shell: Shell, root: ModelServiceClient) -> None:
    unknown = shell("models", "list")
    assert unknown.returncode == 1
    assert "model-service login" in unknown.stderr
    root.create_user("alice", password=PASSWORD, roles=["writer"])
    wrong = shell.typing("another password\n", "login", "alice", "--password-stdin")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("error: unauthorized: ")

    done = shell.typing(f"{PASSWORD}\n", "login", "alice", "--password-stdin")
    assert done.stdout.startswith("Signed in as alice until "), done.stderr
    (kept,) = shell.home.rglob("*.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in kept.read_text()
    assert shell.json("whoami")["name"] == "alice"
    shell.json("models", "register", "digits", "cnn")
    assert shell.json("namespaces")["namespaces"][0]["models"] == 1
    # The token goes to the service that gave it and to no other address of it.
    elsewhere = Shell(shell.url.replace("127.0.0.1", "localhost"), shell.home)
    assert "login" in elsewhere("whoami").stderr
    # A key that is given goes before the session.
    assert shell.json("whoami", MODEL_SERVICE_API_KEY=ROOT_KEY)["name"] != "alice"

    token = json.loads(kept.read_text())[shell.url]["token"]
    assert shell("logout").stdout == "Signed out.\n"
    assert "token" not in kept.read_text()
    with pytest.raises(Unauthorized):
        ModelServiceClient(shell.url, token).whoami()
    assert shell("logout").stdout == "Not signed in.\n"


def test_an_administrators_commands(shell: Shell) -> None:
    key = {"MODEL_SERVICE_API_KEY": ROOT_KEY}
    words = ("users", "create", "alice", "--role", "reader", "--namespace-role", "vision=writer")
    made = shell.typing(f"{PASSWORD}\n", *words, "--password-stdin", "--json", **key)
    assert json.loads(made.stdout)["namespaces"] == {"vision": ["writer"]}, made.stderr
    robot = shell.json("users", "create", "robot", "--machine", "--role", "writer", **key)
    assert robot["roles"] == ["writer"]
    assert shell.json("users", "update", "robot", "--role", "reader", **key)["roles"] == ["reader"]
    assert shell.json("users", "update", "robot", "--disable", **key)["disabled"]
    assert [user["name"] for user in shell.json("users", "list", **key)["users"]] == ["alice", "robot"]
    assert "vision=writer" in shell("users", "list", **key).stdout
    assert "disabled" in shell("users", "get", "robot", **key).stdout
    assert shell("users", "delete", "robot", **key).stdout == "Deleted robot.\n"
    log = shell.json("audit", "--kind", "user", "--limit", "2", **key)
    assert [entry["subject_id"] for entry in log["entries"]] == ["robot", "robot"]
    shown = shell("audit", "--kind", "user", "--limit", "2", **key).stdout
    assert f"--cursor {log['next_cursor']}" in shown
    wrong = shell("users", "create", "bob", "--namespace-role", "vision", **key)
    assert wrong.returncode == 2
    idle = shell("users", "create", "bob", "--machine", **key)
    assert "bob has no role" in idle.stderr


def test_a_keys_text_is_shown_once(shell: Shell, root: ModelServiceClient) -> None:
    root.create_user("robot", roles=["writer"])
    as_root = {"MODEL_SERVICE_API_KEY": ROOT_KEY}
    words = ("keys", "create", "ci", "--scope", "read", "--scope", "write", "--days", "7")
    shown = shell(*words, "--owner", "robot", **as_root)
    fields = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    text = shown.stdout.split("key (shown once)")[1].split()[0]
    assert "cannot be shown again" in shown.stderr
    mine = {"MODEL_SERVICE_API_KEY": text}
    assert shell.json("whoami", **mine)["name"] == "robot"
    listed = shell("keys", "list", **as_root)
    assert fields["id"] in listed.stdout
    assert text not in listed.stdout
    rotated = shell.json("keys", "rotate", fields["id"], "--grace", "600", **as_root)
    for working in (text, rotated["key"]):
        assert shell.json("whoami", MODEL_SERVICE_API_KEY=working)["key_id"] == fields["id"]
    assert shell("keys", "revoke", fields["id"], **as_root).stdout == f"Revoked {fields['id']}.\n"
    refused = shell("whoami", **mine)
    assert (refused.returncode, refused.stdout) == (1, "")
