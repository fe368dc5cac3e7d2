import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_service.config import SettingsError, read_settings, redact_url
from model_service.config_types import parse_size
from model_service.embedded import Addresses


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("4GiB", 4 * 2**30), ("1.5 kb", 1500), ("17", 17), ("10B", 10), (1000, 1000)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("PORT", "0", "1"),
        ("PORT", "http", "integer"),
        ("MAX_FILE_SIZE", "5 apples", "500MB"),
        ("MAX_FILE_SIZE", "0", "greater than 0"),
        ("MAX_FILE_SIZE", "9" * 400, "smaller"),
        ("JOB_LEASE_S", "inf", "finite"),
        ("ORPHAN_SAFETY_S", "0", "3600"),
        ("LOG_LEVEL", "loud", "'DEBUG'"),
        ("MONGODB_DB", "a/b", "letters"),
        ("HOST", "0.0.0.0", "ALLOW_ANONYMOUS"),
        ("ENABLE_AUTH", "perhaps", "boolean"),
        ("PUBLIC_URL", "models.example", "https://"),
        ("PUBLIC_URL", "https://models.example/?a=b", "https://"),
        ("INFERENCE_URL", "http://::1:8085", "https://"),
        ("EXPORT_LIMITS", "free=1", "free=1/10"),
        ("EXPORT_LIMITS", "gold=1/2", "enterprise"),
        ("DEFAULT_TIER", "gold", "'free'"),
        ("EXPORT_ALLOWED_MODULES", "mynets; rm", "mynets"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, hint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        read_settings()
    message = str(error.value)
    assert name in message
    assert hint in message
    assert "\n" not in message


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "tooshort")
    with pytest.raises(SettingsError) as error:
        read_settings()
    assert "API_KEY" in str(error.value)
    assert "tooshort" not in str(error.value)


@pytest.mark.parametrize("program", ["api", "jobs", "serving"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MONGODB_URL", ""),
        ("MONGODB_URL", "postgres://u:secret@h/x"),
        ("MONGODB_URL", "mongodb://u:sec/ret@h"),
        ("MONGODB_URL", "mongodb://u:secret@127.0.0.1:1"),
        ("REDIS_URL", "http://u:secret@127.0.0.1:1"),
        ("PORT", "0"),
    ],
)
def test_a_program_that_cannot_start_says_why_in_one_line(
    servers: Addresses, tmp_path: Path, program: str, name: str, value: str
) -> None:
    if (program, name) == ("serving", "REDIS_URL"):
        return  # it needs none
    env = {
        "MONGODB_URL": servers.mongodb_url,
        "REDIS_URL": servers.redis_url,
        "MODEL_SERVICE_HOME": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-m", f"model_service.{program}"],
        env=os.environ | env | {name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    said = ended.stderr.strip().splitlines()
    assert len(said) == 1, ended.stderr
    assert name in said[0]
    assert "secret" not in said[0]
    assert "sec/ret" not in said[0]


def test_no_password_is_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGODB_URL", raising=False)
    assert read_settings().mongodb_url is None
    monkeypatch.setenv("MONGODB_URL", "")
    assert read_settings().mongodb_url is None


def test_settings_do_not_change(tmp_path: Path) -> None:
    settings = read_settings(model_service_home=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://user:secret@host:27017/db?authSource=admin",
        "mongodb://user:sec/ret@host:27017",
        "mongodb://user:sec#ret@host:27017/db",
        "mongodb://user:sec?ret@host:27017/db",
        "mongodb://user:sec@ret@host:27017/db",
        "mongodb://host:27017/db",
    ],
)
def test_a_shown_address_has_no_password(url: str) -> None:
    assert redact_url(url) == "mongodb://host:27017"


@pytest.mark.parametrize("given", ["info", "Info", "INFO"])
def test_log_levels_are_taken_in_any_case(given: str) -> None:
    settings = read_settings(log_level=given, mongodb_log_level=given)
    assert (settings.log_level, settings.mongodb_log_level) == ("INFO", "INFO")


@pytest.mark.parametrize(
    "secret",
    [
        "change-me-please-in-production",
        "your_secret_key_here",
        "ExampleExampleExample",
        "0123456789012345",
        "aaaaaaaaaaaaaaaaaaaa",
    ],
)
def test_a_placeholder_is_no_secret(secret: str) -> None:
    for name in ("api_key", "signing_secret"):
        with pytest.raises(SettingsError, match="it is a placeholder"):
            read_settings(**{name: 2 * secret})


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("mongodb_url", "mongodb://model-service:PASSWORD@db1.example.com/?replicaSet=rs0&authSource=admin"),
        ("redis_url", "redis://:PASSWORD@redis.example.com:6379/0"),
    ],
)
def test_the_placeholder_of_a_password_is_no_password(name: str, url: str) -> None:
    with pytest.raises(
        SettingsError, match=f"^{name.upper()} is not allowed: its password is the placeholder"
    ):
        read_settings(**{name: url})
    accepted = url.replace("PASSWORD", "PASSWORD1")
    assert getattr(read_settings(**{name: accepted}), name).get_secret_value() == accepted


@pytest.mark.parametrize(
    "secret", ["0123456789abcdef", "our-example-company-key-1", "correct horse default staple"]
)
def test_a_secret_may_contain_the_words_of_a_placeholder(secret: str) -> None:
    found = read_settings(api_key=secret).api_key

    assert found is not None
    assert found.get_secret_value() == secret
