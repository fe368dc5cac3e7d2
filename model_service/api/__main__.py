"""The registry's server: ``python -m model_service.api``."""

import sys

from model_service.api.transfers import share_freed_memory
from model_service.app import create_app
from model_service.config import SettingsError, read_settings
from model_service.log import configure_logging
from model_service.metrics import fold_dead
from model_service.server import serve
from model_service.services import check_dependencies


def application() -> object:
    """What each of granian's processes calls; the settings come with the environment."""
    settings = read_settings()
    configure_logging(settings)
    share_freed_memory()
    fold_dead()
    return create_app(settings)


def main() -> int:
    try:
        settings = read_settings()
        configure_logging(settings)
        check_dependencies(settings)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return 2
    serve(
        "model_service.api.__main__:application",
        host=settings.host,
        port=settings.port,
        workers=settings.api_workers,
        threads=settings.api_threads,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
