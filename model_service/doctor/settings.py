"""The settings and their secrets: each wrong one, not only the first."""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from model_service.config import (
    Settings,
    SettingsError,
    explain_setting,
    is_loopback,
    is_secret,
    require_api_key,
    secret_from_file,
)
from model_service.doctor.findings import Finding, Part, Setup, error, ok, warning
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
                else:  # the combination of HOST and ENABLE_AUTH
                    wrong.append(explain_setting(found))
                    given["host"] = "127.0.0.1"


def check(setup: Setup) -> Iterator[Finding]:
    settings = setup.settings
    for line in setup.wrong:
        yield error("settings", line)
    if not setup.wrong:
        yield ok("settings", "all values are valid, and no secret is a placeholder")
    if Part.API not in setup.parts:
        return
    if not any(line.startswith("API_KEY") for line in setup.wrong):
        yield _required("authentication", lambda: require_api_key(settings), "the administrator's key is set")
    yield _required("tiers", lambda: Tiers.read(settings), "the limits of the tiers are valid")
    if settings.allow_anonymous and not settings.enable_auth and not is_loopback(settings.host):
        yield warning(
            "authentication",
            f"every client that reaches HOST={settings.host} is an administrator. Set ENABLE_AUTH=true and "
            "API_KEY",
        )


def _required(name: str, check: Callable[[], object], done: str) -> Finding:
    """Return whether the check raises a SettingsError. ``done``: the message if it does not."""
    try:
        check()
    except SettingsError as exc:
        return error(name, str(exc))
    return ok(name, done)
