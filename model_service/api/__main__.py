"""The registry's server: ``python -m model_service.api``.

Imports that need prometheus_client are inside the functions: see ``metrics_folder``.
"""

import sys
from contextlib import nullcontext

from model_service import tracing
from model_service.api.operations import development
from model_service.config import (
    Settings,
    SettingsError,
    Unreachable,
    read_settings,
    require_api_key,
    require_folder,
)
from model_service.listening import explain, require_free
from model_service.log import configure_logging
from model_service.metrics_folder import counting_together
from model_service.signals import die_with_parent
from model_service.temporary_folder import why_unwritable

_PATIENCE_S = 2.0  # while an earlier server is still ending


def application() -> object:
    """Return the WSGI application; each of granian's processes calls this."""
    die_with_parent()
    from model_service.api.http.bodies import Bodies
    from model_service.api.http.transfers import share_freed_memory
    from model_service.app import create_app
    from model_service.metrics import fold_dead
    from model_service.server import call_through

    settings = read_settings()
    configure_logging(settings)
    tracing.start_exporting(settings, "api")
    share_freed_memory()
    fold_dead()
    call_through(lambda run: Bodies(run, settings))
    return create_app(settings)


def main() -> int:
    try:
        settings = read_settings()
        require_api_key(settings)
        if development.is_enabled():
            settings = development.for_development(settings)
        configure_logging(settings)
        tracing.check(settings)
        if reason := why_unwritable():
            raise SettingsError(reason)
        require_folder(settings.home, "MODEL_SERVICE_HOME")
        if settings.cache_max_bytes:
            require_folder(settings.cache, "CACHE_DIR")
        with counting_together() if settings.api_workers > 1 else nullcontext():
            _serve(settings)
    except Unreachable as exc:
        print(f"{exc}. Start it, or everything at once with 'model-service up'.", file=sys.stderr)
        return exc.exit_code
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    return 0


def _serve(settings: Settings) -> None:
    """Raises: SettingsError."""
    from model_service.api.http.transfers import streams
    from model_service.server import check_granian, serve
    from model_service.services import check_dependencies

    check_granian()
    check_dependencies(settings)
    if development.serves():
        return development.serve(settings)
    try:
        require_free(settings.host, settings.port, patience_s=_PATIENCE_S)
    except OSError as exc:
        raise SettingsError(f"HOST={settings.host} PORT={settings.port} {explain(exc)}") from None
    if development.is_enabled():
        return development.serve(settings)
    return serve(
        "model_service.api.__main__:application",
        host=settings.host,
        port=settings.port,
        workers=settings.api_workers,
        threads=settings.api_threads + streams(settings.api_threads) + settings.api_bodies,
    )


if __name__ == "__main__":
    sys.exit(main())
