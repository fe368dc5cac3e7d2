"""A migration in a process of its own that waits before each page, so that a test can kill it inside of one.

It prints a line before each page and reads a line before it goes on.
"""

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from model_service.config import Settings, read_settings
from model_service.log import configure_logging
from model_service.storage.common.db import Database
from model_service.storage.migrations import pages
from model_service.storage.migrations.base import Migration, Upgrade
from model_service.storage.migrations.runner import Runner
from tests.factories import Document

# As short as a killed process may hold up the next one.
_LEASE_S = 0.5


class PagedMigration:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def _next_page(self) -> bool:
        """False at the end."""
        if self._stdout.readline() != "page\n":
            return False
        self._stdin.write("go on\n")
        self._stdin.flush()
        return True

    def run_pages(self, count: int) -> None:
        assert all(self._next_page() for _ in range(count)), "it ended too early to be killed"

    def kill_in_the_next_page(self, *, after_s: float) -> None:
        """SIGKILL, at some moment of its reads and writes."""
        assert self._next_page(), "it ended too early to be killed"
        time.sleep(after_s)
        self._process.kill()

    def run_to_the_end(self) -> int:
        while self._next_page():
            pass
        return self._process.wait(timeout=60)


@contextmanager
def paged_migration(settings: Settings, steps: str, *, page: int) -> Iterator[PagedMigration]:
    """``steps`` is ``module:name`` of a list of migrations."""
    command = [sys.executable, "-m", __name__, steps, str(page)]
    with subprocess.Popen(
        command, env=environment(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield PagedMigration(process)
        finally:
            process.kill()


def environment(settings: Settings) -> dict[str, str]:
    """For a process of the service on the test's own database."""
    assert settings.mongodb_url is not None
    assert settings.redis_url is not None
    return dict(os.environ) | {
        "MONGODB_URL": settings.mongodb_url.get_secret_value(),
        "MONGODB_DB": settings.mongodb_db,
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MODEL_SERVICE_HOME": str(settings.model_service_home),
    }


def _paged(migration: Migration) -> Migration:
    return replace(
        migration, documents={name: _waiting(upgrade) for name, upgrade in migration.documents.items()}
    )


def _waiting(upgrade: Upgrade) -> Upgrade:
    def waiting(database: Database, documents: Sequence[Document]) -> Sequence[Document]:
        print("page", flush=True)
        sys.stdin.readline()
        return upgrade(database, documents)

    return waiting


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    steps = getattr(importlib.import_module(module), name)
    pages.PAGE = int(sys.argv[2])
    settings = read_settings()
    configure_logging(settings)
    database = Database(settings)
    Runner(database, [_paged(step) for step in steps], lambda line: None, lease_s=_LEASE_S).run()


if __name__ == "__main__":
    main()
