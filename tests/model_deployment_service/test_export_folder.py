"""The folder of exports: what was acknowledged is there, whatever happens to the process."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_service.model_deployment_service import ModelExporter, ModelValidator
from model_service.model_deployment_service.export_folder import ExportFolder
from tests.model_deployment_service.conftest import Exported

ACKNOWLEDGED = 5
# Publishes copies of one export until it is killed, and prints the path of each that was acknowledged.
PUBLISH = """
import copy, sys
from datetime import UTC, datetime
from pathlib import Path
from model_service.model_deployment_service.export_folder import ExportFolder

folder = ExportFolder(Path(sys.argv[1]))
export = folder.at(sys.argv[2])
while True:
    metadata = copy.deepcopy(export.metadata)
    metadata.export_timestamp = datetime.now(UTC)
    source = export.folder / "source.pt2"
    made = folder.publish(metadata, export.files, export.folder / "package", source, model_name="drawings")
    print(made.path, flush=True)
"""


def test_what_was_acknowledged_is_there_after_kill_9(
    exporter: ModelExporter, validator: ModelValidator, exported: list[Exported], export_dir: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, str(export_dir), exported[0].path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(ACKNOWLEDGED)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.read().split()
    process.wait()
    process.stdout.close()
    listed = {entry["model_export_path"]: entry for entry in exporter.list_exported_models()}
    assert [entry["problem"] for entry in listed.values() if entry["problem"]] == []
    assert set(acknowledged) <= set(listed)
    last = ExportFolder(export_dir).at(acknowledged[-1])
    assert validator.validate_exported_model(last.metadata)["is_valid"]


def test_the_leftovers_of_a_killed_process_are_removed_by_the_next_export(
    exported: list[Exported], export_dir: Path
) -> None:
    old, new = export_dir / ".unfinished-old", export_dir / ".unfinished-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "part").write_bytes(b"x")
    long_ago = time.time() - 3600
    os.utime(old, (long_ago, long_ago))
    folder = ExportFolder(export_dir)
    export = folder.at(exported[0].path)
    metadata = copy.deepcopy(export.metadata)
    metadata.model_id = "another"
    folder.publish(metadata, export.files, export.folder / "package", None, model_name="drawings")
    assert not old.exists()
    assert new.exists()  # it may belong to a process that is about to lock it


def test_the_folder_of_backups_is_synced_before_a_backup_is_acknowledged(
    exported: list[Exported], export_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    backups, fsync = export_dir.resolve() / "backups", os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), backups.exists()))

    monkeypatch.setattr(os, "fsync", recorded)
    folder = ExportFolder(export_dir)
    folder.back_up(folder.at(exported[0].path))
    assert (backups.parent, True) in synced
    assert synced[-1] == (backups, True)
