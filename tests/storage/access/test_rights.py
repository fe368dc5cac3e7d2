"""A MongoDB user who may not do what the service does is named at the start, with what is missing."""

import secrets
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from model_service.config import Settings, SettingsError
from model_service.storage.common.db import Database
from tests.client.cli.test_cli import run

User = Callable[..., Settings]


@pytest.fixture
def user(settings: Settings) -> Iterator[User]:
    """Makes a user with roles on databases, and gives the settings to come as that user."""
    assert settings.mongodb_url is not None
    url, made = urlsplit(settings.mongodb_url.get_secret_value()), []
    with MongoClient(settings.mongodb_url.get_secret_value()) as client:

        def make(*roles: tuple[str, str]) -> Settings:
            name = f"u{secrets.token_hex(4)}"
            granted = [{"role": role, "db": database} for role, database in roles]
            client.admin.command("createUser", name, pwd="pw", roles=granted)
            made.append(name)
            query = "&".join(filter(None, (url.query, "authSource=admin")))
            address = url._replace(netloc=f"{name}:pw@{url.netloc}", path="/", query=query).geturl()
            return settings.model_copy(update={"mongodb_url": SecretStr(address)})

        yield make
        for name in made:
            client.admin.command("dropUser", name)


def check(settings: Settings) -> None:
    database = Database(settings)
    try:
        database.check()
    finally:
        database.close()


@pytest.mark.parametrize("role", ["readWrite", "dbOwner"])
def test_a_user_with_the_role_is_enough(user: User, settings: Settings, role: str) -> None:
    check(user((role, settings.mongodb_db)))


@pytest.mark.parametrize("role", ["root", "readWriteAnyDatabase"])
def test_a_role_for_all_databases_is_enough(user: User, role: str) -> None:
    check(user((role, "admin")))


def test_without_users_nothing_is_asked(settings: Settings) -> None:
    check(settings)


@pytest.mark.parametrize("roles", [[], ["read"]])
def test_what_is_missing_is_said_with_the_role_that_grants_it(
    user: User, settings: Settings, roles: list[str]
) -> None:
    reader = user(*((role, settings.mongodb_db) for role in roles))
    with pytest.raises(SettingsError) as refused:
        check(reader)
    message = str(refused.value)
    assert "createIndex, " in message
    assert ("find, " in message) is (roles == [])
    assert f"in the database {settings.mongodb_db}: grant it the role readWrite" in message


@pytest.mark.parametrize("command", [("verify",), ("restore", "-")])
def test_the_commands_say_which_right_is_missing(
    user: User, settings: Settings, command: tuple[str, ...]
) -> None:
    reader = user(("read", settings.mongodb_db))
    assert reader.mongodb_url is not None
    env = {"MONGODB_URL": reader.mongodb_url.get_secret_value(), "MONGODB_DB": settings.mongodb_db}
    done = run(*command, **env, MODEL_SERVICE_HOME=str(settings.home))
    assert done.returncode == 2, done.stderr
    assert "lacks permission for" in done.stderr
    assert "insert" in done.stderr
    assert "OperationFailure" not in done.stderr
