"""The inference server: ``python -m model_service.serving``."""

import multiprocessing.util
import socket
import sys

from model_service.config import SettingsError, read_settings
from model_service.log import configure_logging
from model_service.server import serve
from model_service.serving.app import InferenceApp
from model_service.serving.host import Host
from model_service.serving.store import PackageStore
from model_service.serving.usage import Usage
from model_service.storage.blobs import Blobs
from model_service.storage.db import Database, check_database
from model_service.storage.deployments import Deployments


def application() -> InferenceApp:
    """What granian's process calls; the settings come with the environment."""
    settings = read_settings()
    configure_logging(settings)
    database = Database(settings)
    usage = Usage()
    store = PackageStore(Blobs(database), settings.home / "serving")
    server = f"{socket.gethostname()}:{settings.inference_port}".replace(".", "-")
    host = Host(Deployments(database), store, usage, server=server)
    host.start()
    # granian's process is a forked one of multiprocessing, which ends without atexit.
    multiprocessing.util.Finalize(None, host.stop, exitpriority=0)
    return InferenceApp(host, usage, max_body=settings.max_inference_body)


def main() -> int:
    try:
        settings = read_settings()
        configure_logging(settings)
        check_database(settings)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return 2
    serve(
        "model_service.serving.__main__:application",
        host=settings.inference_host,
        port=settings.inference_port,
        workers=1,
        threads=settings.inference_threads,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
