"""A worker: ``python -m model_service.jobs``."""

import socket
import sys

from model_service import tracing
from model_service.config import SettingsError, read_settings, require_folder
from model_service.log import configure_logging
from model_service.metrics_folder import count_in
from model_service.temporary_folder import why_unwritable


def main() -> int:
    try:
        settings = read_settings()
        configure_logging(settings)
        tracing.check(settings)
        tracing.start_exporting(settings, "worker")
        if reason := why_unwritable():
            raise SettingsError(reason)
        require_folder(settings.home, "MODEL_SERVICE_HOME")
        if settings.worker_metrics_port is not None:
            # One folder per host: file names contain process ids, and containers may share a data folder.
            count_in(settings.home / "metrics" / socket.gethostname())
        from model_service.jobs.worker import run

        return run(settings)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
