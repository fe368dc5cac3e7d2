"""What is served follows the database, and nothing is served that was not proven here too."""

import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Callable

import pytest
from pymongo.errors import AutoReconnect

from exporters import package as packages
from model_service.serving.hosting.loader import MAX_LOAD_ATTEMPTS
from tests.factories import Document
from tests.serving.conftest import Endpoint, World, ended
from tests.waiting import wait_for

Rewrite = Callable[[str, bytes], bytes]


def history(world: World, deployment_id: str) -> list[tuple[str | None, str | None]]:
    found = world.database.deployment_history.find({"deployment_target_id": deployment_id}).sort("_id", 1)
    return [(event["status_before"], event["status_after"]) for event in found]


def logged(world: World) -> list[str]:
    return [entry["event"] for entry in world.database.deployment_logs.find().sort("_id", 1)]


def refused(world: World, deployment_id: str) -> str:
    """Why the deployment failed."""
    wait_for(lambda: world.status(deployment_id) == "failed", "the deployment to fail")
    return str(world.document(deployment_id)["error_message"])


def loses_a_chunk(world: World, deployment_id: str) -> None:
    blob_id = world.document(deployment_id)["routing"]["members"][0]["package"]["file_id"]
    assert world.database.chunks.delete_one({"files_id": blob_id}).deleted_count == 1


def with_changed_model(archive: bytes) -> bytes:
    """The package with another artefact; the manifest says what it said."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(result, "w") as target:
        for info in source.infolist():
            changed = info.filename == "model.onnx"
            target.writestr(info, b"other bytes" if changed else source.read(info))
    return result.getvalue()


def test_a_pending_deployment_becomes_active(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    assert host.get(deployment_id) is not None
    assert world.document(deployment_id)["error_message"] is None
    assert history(world, deployment_id) == [("pending", "deploying"), ("deploying", "active")]


def test_a_restarted_server_serves_what_was_active(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    world.serving(deployment_id).stop()
    restarted = world.host()
    assert restarted.ready.wait(60)
    assert restarted.get(deployment_id) is not None
    assert history(world, deployment_id)[-1] == ("deploying", "active")


def test_a_deleted_deployment_is_served_no_more_and_its_files_go(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    folder = world.store.folder
    assert len(list(folder.iterdir())) == 1
    world.database.transaction(lambda session: world.stores.deployments.delete(deployment_id, session))
    wait_for(lambda: host.get(deployment_id) is None, "the deployment to be forgotten")
    wait_for(lambda: list(folder.iterdir()) == [], "its files to go")


def test_a_changed_artefact_is_refused(world: World, package_zip: bytes) -> None:
    bad = world.deploy(with_changed_model(package_zip))
    good = world.deploy(package_zip)
    host = world.serving(good)
    assert "model.onnx" in refused(world, bad)
    assert host.get(bad) is None
    assert host.get(good) is not None


def test_what_is_no_package_is_refused(world: World) -> None:
    deployment_id = world.deploy(b"this is no zip")
    world.host()
    assert "zip" in refused(world, deployment_id)


def test_a_package_that_is_stored_no_more_is_refused(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    loses_a_chunk(world, deployment_id)
    world.host()
    assert "chunk" in refused(world, deployment_id)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("classes", [{"name": "a"}, {"name": "b"}], "3 classes, but 2 class names are declared"),
        ("postprocessing", {"top_k": "many"}, "post-processing"),
        ("classes", [{"label": "a"}], "cannot be served"),
    ],
)
def test_postprocessing_that_does_not_fit_is_refused(
    world: World, package_zip: bytes, rewrite: Rewrite, field: str, value: object, reason: str
) -> None:
    with zipfile.ZipFile(io.BytesIO(package_zip)) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    changed = json.dumps(metadata | {field: value}).encode()
    deployment_id = world.deploy(rewrite("metadata.json", changed))
    world.host()
    assert reason in refused(world, deployment_id)


def test_an_artefact_the_runtime_does_not_take_is_refused(world: World, rewrite: Rewrite) -> None:
    deployment_id = world.deploy(rewrite("model.onnx", b"no protobuf"))
    world.host()
    assert "cannot be served" in refused(world, deployment_id)


def test_the_trouble_of_one_server_fails_no_deployment(
    world: World, package_zip: bytes, listen: Callable[..., Endpoint]
) -> None:
    folder = world.store.folder
    folder.rmdir()
    folder.write_text("in the way")  # nothing can be stored here, as on a full disk
    deployment_id = world.deploy(package_zip)
    host = world.host()
    wait_for(lambda: host.failing == [deployment_id], "the trouble to be told")
    assert listen(host).request("GET", "/health").json["failing"] == [deployment_id]
    assert world.status(deployment_id) == "deploying"
    folder.unlink()
    wait_for(lambda: world.status(deployment_id) == "active", "another try")
    assert host.failing == []


def test_one_server_cannot_fail_what_is_active(world: World, package_zip: bytes, rewrite: Rewrite) -> None:
    lost = world.deploy(package_zip)
    kept = world.deploy(rewrite("README.md", b"another package"))
    first = world.serving(lost)
    wait_for(lambda: world.status(kept) == "active", "the other to be active")
    loses_a_chunk(world, lost)
    (world.folder(lost) / "model.onnx").write_bytes(b"damaged")
    first.stop()
    second = world.host()
    assert second.ready.wait(60)  # it has given up, and goes on trying
    assert second.failing == [lost]
    assert second.get(kept) is not None
    assert second.expects(lost)
    assert world.status(lost) == "active"


def test_a_damaged_copy_is_fetched_again(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    world.serving(deployment_id).stop()
    artefact = world.folder(deployment_id) / "model.onnx"
    good = artefact.read_bytes()
    artefact.write_bytes(good[:-1])
    restarted = world.host()
    wait_for(lambda: restarted.get(deployment_id), "the package to be loaded")
    assert restarted.failing == []
    assert artefact.read_bytes() == good


def test_a_long_load_holds_nothing_up(
    world: World, package_zip: bytes, rewrite: Rewrite, listen: Callable[..., Endpoint]
) -> None:
    loaded = world.deploy(package_zip)
    host = world.serving(loaded)
    slow = world.deploy(rewrite("README.md", b"another package"))
    release = world.hang(slow)
    wait_for(lambda: world.status(slow) == "deploying", "the load to begin")

    answer = listen(host).request("POST", f"/v1/infer/{slow}")
    assert (answer.status, answer.json["error"]["code"]) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) > 0

    world.database.api_keys.delete_many({"deployment_id": loaded})
    wait_for(lambda: not len(host.get(loaded).keys), "the key to be revoked")  # type: ignore[union-attr]
    world.database.transaction(lambda session: world.stores.deployments.delete(loaded, session))
    wait_for(lambda: host.get(loaded) is None, "the deployment to be forgotten")

    assert world.status(slow) == "deploying"
    release()
    wait_for(lambda: world.status(slow) == "active", "the load to end")


def test_ready_waits_for_what_was_active(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    world.serving(deployment_id).stop()
    shutil.rmtree(world.folder(deployment_id))
    release = world.hang(deployment_id)
    restarted = world.host()
    wait_for(lambda: world.document(deployment_id).get("load_attempts"), "the load to begin")
    assert not restarted.ready.is_set()
    assert [restarted.expects(name) for name in (deployment_id, "endpoint", "another")] == [True, True, False]
    release()
    assert restarted.ready.wait(60)
    assert restarted.get(deployment_id) is not None


def test_an_orderly_stop_while_loading_is_no_crash(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    release = world.hang(deployment_id)
    host = world.host()
    wait_for(lambda: world.document(deployment_id).get("load_attempts"), "the load to begin")
    host.stop()
    assert not world.document(deployment_id)["load_attempts"]
    release()


def test_a_new_key_is_known_without_a_reload(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    before = host.get(deployment_id)
    world.database.api_keys.delete_many({"deployment_id": deployment_id})
    wait_for(lambda: not len(host.get(deployment_id).keys), "the key to go")  # type: ignore[union-attr]
    after = host.get(deployment_id)
    assert before is not None
    assert after is not None
    assert after.models == before.models


def test_a_key_that_goes_while_an_update_loads_stays_gone(
    world: World, package_zip: bytes, rewrite: Rewrite, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    newer = world.member(rewrite("README.md", b"another package"))
    folder = world.store.folder / newer["package"]["checksum"].removeprefix("sha256:")
    folder.mkdir()
    os.mkfifo(folder / packages.MANIFEST)
    world.revise(deployment_id, {"members": [newer]})
    wait_for(lambda: world.document(deployment_id).get("load_attempts"), "the load to begin")
    world.database.api_keys.delete_many({"deployment_id": deployment_id})
    wait_for(lambda: not len(host.get(deployment_id).keys), "the key to go")  # type: ignore[union-attr]

    def away() -> list[object]:
        raise AutoReconnect("MongoDB is away")

    monkeypatch.setattr(world.stores.served_deployments, "read", away)
    wait_for(lambda: ended(folder / packages.MANIFEST), "the load to read the pipe")
    wait_for(lambda: host.get(deployment_id).revision == 2, "the update")  # type: ignore[union-attr]
    assert not len(host.get(deployment_id).keys)  # type: ignore[union-attr]


def test_the_crashes_of_an_update_are_not_those_of_what_it_was_to_replace(
    world: World, package_zip: bytes, rewrite: Rewrite
) -> None:
    deployment_id = world.deploy(package_zip)
    world.serving(deployment_id).stop()
    world.revise(deployment_id, {"members": [world.member(rewrite("README.md", b"another package"))]})
    world.stores.serving_reports.set_load_attempts(deployment_id, "the-server", MAX_LOAD_ATTEMPTS)
    restarted = world.host()
    hosted = wait_for(lambda: restarted.get(deployment_id), "the revision that works to be served again")
    assert hosted is not None
    assert hosted.revision == 1
    assert "crashed" in world.document(deployment_id)["error_message"]
    assert restarted.failing == []


def test_an_update_takes_over_when_it_is_loaded_and_only_then(
    world: World, package_zip: bytes, rewrite: Rewrite
) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    first = host.get(deployment_id)
    assert first is not None
    newer = world.member(rewrite("README.md", b"another package"), model_version="v1.1")
    folder = world.store.folder / newer["package"]["checksum"].removeprefix("sha256:")
    folder.mkdir()
    os.mkfifo(folder / packages.MANIFEST)
    world.revise(deployment_id, {"members": [newer]})
    wait_for(lambda: world.document(deployment_id).get("load_attempts"), "the load to begin")
    assert host.get(deployment_id) is first
    wait_for(lambda: ended(folder / packages.MANIFEST), "the load to read the pipe")
    wait_for(lambda: world.document(deployment_id)["live_revision"] == 2, "the update to be live")
    second = host.get(deployment_id)
    assert second is not None
    assert [model.model_version for model in second.models] == ["v1.1"]
    assert second.flight is first.flight


def test_an_update_that_cannot_be_served_leaves_what_is(
    world: World, package_zip: bytes, rewrite: Rewrite
) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    world.revise(deployment_id, {"members": [world.member(rewrite("model.onnx", b"no protobuf"))]})
    wait_for(lambda: world.document(deployment_id)["error_message"], "the update to fail")
    assert world.status(deployment_id) == "active"
    hosted = host.get(deployment_id)
    assert hosted is not None
    assert hosted.revision == 1
    wait_for(lambda: logged(world) == ["loaded", "load_failed"], "it to be told")
    host.stop()
    restarted = world.host()
    wait_for(lambda: restarted.get(deployment_id), "the revision that works to be served again")


def test_an_update_loads_only_what_is_new(world: World, package_zip: bytes, rewrite: Rewrite) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    first = host.get(deployment_id)
    assert first is not None
    (known,) = world.document(deployment_id)["routing"]["members"]
    canary = world.member(rewrite("README.md", b"another package"), name="canary")
    world.revise(deployment_id, {"members": [known, canary]}, max_concurrency=3)
    wait_for(lambda: world.document(deployment_id)["live_revision"] == 2, "the update to be live")
    second = host.get(deployment_id)
    assert second is not None
    assert second.max_concurrency == 3
    assert second.models[0].loaded is first.models[0].loaded
    assert [member.name for member in second.route.members] == ["v1.0", "canary"]


def test_a_database_that_hangs_is_not_connected(
    world: World, package_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.serving(world.deploy(package_zip))
    served, back = world.stores.served_deployments.read, threading.Event()

    def hanging() -> list[Document]:
        back.wait(60)
        return served()

    monkeypatch.setattr(world.stores.served_deployments, "read", hanging)
    assert host.connected
    wait_for(lambda: not host.connected, "it to be noticed")
    back.set()
    wait_for(lambda: host.connected, "it to be forgotten")
