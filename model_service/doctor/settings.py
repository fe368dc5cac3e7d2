"""The settings and their secrets: each wrong one, not only the first."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from model_service.config import (
    Settings,
    SettingsError,
    explain_setting,
    is_loopback,
    is_secret,
    secret_from_file,
)
from model_service.doctor.findings import Finding, Setup, error, ok, warning
from model_service.tiers import Tiers


def read() -> tuple[Settings, list[str]]:
    """Return the settings with the default in the place of each wrong one, and a line for each of these."""
    given: dict[str, Any] = {}
    wrong: list[str] = []
    for name in filter(is_secret, Settings.model_fields):
        try:
            if (value := secret_from_file(name)) is not None:
                given[name] = value
        except SettingsError as exc:
            wrong.append(str(exc))
            given[name] = None
    while True:
        try:
            return Settings(**given), wrong
        except ValidationError as exc:
            for found in exc.errors():
                if found["loc"]:
                    name = str(found["loc"][0])
                    wrong.append(explain_setting(found))
                    given[name] = Settings.model_fields[name].default
                else:  # the combination of HOST, ENABLE_AUTH and API_KEY
                    if "api_key" not in given or given["api_key"] is not None:
                        wrong.append(explain_setting(found))
                    given |= {"host": "127.0.0.1", "enable_auth": False}


def check(setup: Setup) -> Iterator[Finding]:
    settings = setup.settings
    for line in setup.wrong:
        yield error("settings", line)
    try:
        Tiers.read(settings)
    except SettingsError as exc:
        yield error("tiers", str(exc))
    if setup.wrong:
        return
    yield ok("settings", "all values are valid, and no secret is missing or a placeholder")
    if settings.allow_anonymous and not settings.enable_auth and not is_loopback(settings.host):
        yield warning(
            "authentication",
            f"every client that reaches HOST={settings.host} is an administrator. Set ENABLE_AUTH=true and "
            "API_KEY",
        )
