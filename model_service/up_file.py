"""``up.json``: the addresses of the servers of a running ``model-service up``, in its data folder."""

import json

from pydantic import SecretStr

from model_service.config import Settings, SettingsError

NAME = "up.json"


def with_running_servers(settings: Settings) -> Settings:
    """Return the settings with the MongoDB and Redis of a running ``up``, unless MONGODB_URL is set.

    Raises:
        SettingsError: MONGODB_URL is not set, and ``up`` is not running with this data folder.
    """
    if settings.mongodb_url is not None:
        return settings
    try:
        running = json.loads((settings.home / NAME).read_bytes())
        urls = {name: SecretStr(running[name]) for name in ("mongodb_url", "redis_url")}
    except (OSError, ValueError, KeyError):
        raise SettingsError(
            f"MONGODB_URL is not set, and 'model-service up' is not running with {settings.home} "
            "(MODEL_SERVICE_HOME)"
        ) from None
    return settings.model_copy(update=urls)
