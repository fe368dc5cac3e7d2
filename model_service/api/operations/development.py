"""The server for FLASK_ENV=development: it logs at debug level and restarts when code changes."""

import os
from typing import Any

from model_service.config import Settings, SettingsError, is_loopback

_RELOADED = "WERKZEUG_RUN_MAIN"  # werkzeug sets it in the process that serves, which its parent restarts


def is_enabled() -> bool:
    return os.environ.get("FLASK_ENV") == "development"


def serves() -> bool:
    """Return whether this process serves, on the socket of its parent, which watches the files."""
    return _RELOADED in os.environ


def for_development(settings: Settings) -> Settings:
    """Return the settings with debug logs. Raises: SettingsError: other machines could reach this server."""
    if not is_loopback(settings.host):
        raise SettingsError(
            f"FLASK_ENV=development only works on this machine: HOST={settings.host} must be a loopback "
            "address"
        )
    return settings.model_copy(update={"log_level": "DEBUG"})


def serve(settings: Settings) -> None:
    """Serve until Ctrl-C. Werkzeug's debugger is off, because it runs code for every client."""
    from werkzeug.serving import run_simple

    from model_service.app import create_app

    app: Any = create_app(settings) if serves() else None
    # Werkzeug prefers watchdog if it is installed, but misses changes with watchdog's release 7.
    run_simple(settings.host, settings.port, app, threaded=True, use_reloader=True, reloader_type="stat")
