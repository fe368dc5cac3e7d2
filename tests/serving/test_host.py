"""What is served follows the database, and nothing is served that was not proven here too."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable

import pytest
from pymongo.errors import ServerSelectionTimeoutError
from werkzeug.test import Client

from model_service.serving.app import InferenceApp
from tests.serving.conftest import World, wait_for

Rewrite = Callable[[str, bytes], bytes]


def history(world: World, deployment_id: str) -> list[tuple[str | None, str | None]]:
    found = world.database.deployment_history.find({"deployment_target_id": deployment_id}).sort("_id", 1)
    return [(event["status_before"], event["status_after"]) for event in found]


def refused(world: World, deployment_id: str) -> str:
    """Why the deployment failed."""
    wait_for(lambda: world.status(deployment_id) == "failed", "the deployment to fail")
    return str(world.document(deployment_id)["error_message"])


def loses_a_chunk(world: World, deployment_id: str) -> None:
    blob_id = world.document(deployment_id)["package"]["file_id"]
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
    assert host.find(deployment_id) is not None
    assert world.document(deployment_id)["error_message"] is None
    assert history(world, deployment_id) == [("pending", "deploying"), ("deploying", "active")]


def test_a_restarted_server_serves_what_was_active(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    world.serving(deployment_id).stop()
    restarted = world.host()
    assert restarted.ready.wait(60)
    assert restarted.find(deployment_id) is not None
    assert history(world, deployment_id)[-1] == ("deploying", "active")


def test_a_deleted_deployment_is_served_no_more_and_its_files_go(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    folder = world.store.folder
    assert len(list(folder.iterdir())) == 1
    world.database.transaction(lambda session: world.deployments.delete(deployment_id, session))
    wait_for(lambda: host.find(deployment_id) is None, "the deployment to be forgotten")
    wait_for(lambda: list(folder.iterdir()) == [], "its files to go")


def test_a_changed_artefact_is_refused(world: World, package_zip: bytes) -> None:
    bad = world.deploy(with_changed_model(package_zip))
    good = world.deploy(package_zip)
    host = world.serving(good)
    assert "model.onnx" in refused(world, bad)
    assert host.find(bad) is None
    assert host.find(good) is not None


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
        ("classes", [{"name": "a"}, {"name": "b"}], "3 classes, but 2 are named"),
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


def test_the_trouble_of_one_server_fails_no_deployment(world: World, package_zip: bytes) -> None:
    folder = world.store.folder
    folder.rmdir()
    folder.write_text("in the way")  # nothing can be stored here, as on a full disk
    deployment_id = world.deploy(package_zip)
    host = world.host()
    wait_for(lambda: host.failing == [deployment_id], "the trouble to be told")
    assert Client(InferenceApp(host, world.usage, max_body=1)).get("/health").json["failing"] == [
        deployment_id
    ]
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
    assert second.find(kept) is not None
    assert second.expects(lost)
    assert world.status(lost) == "active"


def test_a_damaged_copy_is_fetched_again(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    world.serving(deployment_id).stop()
    artefact = world.folder(deployment_id) / "model.onnx"
    good = artefact.read_bytes()
    artefact.write_bytes(good[:-1])
    restarted = world.host()
    wait_for(lambda: restarted.find(deployment_id), "the package to be loaded")
    assert restarted.failing == []
    assert artefact.read_bytes() == good


def test_a_long_load_holds_nothing_up(world: World, package_zip: bytes, rewrite: Rewrite) -> None:
    loaded = world.deploy(package_zip)
    host = world.serving(loaded)
    app = Client(InferenceApp(host, world.usage, max_body=100))
    slow = world.deploy(rewrite("README.md", b"another package"))
    release = world.hang(slow)
    wait_for(lambda: world.status(slow) == "deploying", "the load to begin")

    answer = app.post(f"/v1/infer/{slow}")
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) > 0

    world.usage.count(loaded, 1.0)
    wait_for(lambda: world.document(loaded)["request_count"] == 1, "usage to be written")
    world.database.api_keys.delete_many({"deployment_id": loaded})
    wait_for(lambda: host.find(loaded).key_hashes == (), "the key to be revoked")  # type: ignore[union-attr]
    world.database.transaction(lambda session: world.deployments.delete(loaded, session))
    wait_for(lambda: host.find(loaded) is None, "the deployment to be forgotten")

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
    release()
    assert restarted.ready.wait(60)
    assert restarted.find(deployment_id) is not None


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
    before = host.find(deployment_id)
    world.database.api_keys.delete_many({"deployment_id": deployment_id})
    wait_for(lambda: host.find(deployment_id).key_hashes == (), "the key to go")  # type: ignore[union-attr]
    after = host.find(deployment_id)
    assert before is not None
    assert after is not None
    assert after.runner is before.runner


def test_usage_counted_last_is_written_when_the_host_stops(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.serving(deployment_id)
    world.usage.count(deployment_id, 5.0)
    host.stop()
    assert world.document(deployment_id)["request_count"] == 1


def test_usage_that_could_not_be_written_is_kept(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    world.usage.count(deployment_id, 5.0)

    class Away:
        def add_usage(self, usage: object) -> None:
            raise ServerSelectionTimeoutError

    for _ in range(2):
        try:
            world.usage.flush(Away())  # type: ignore[arg-type]
        except ServerSelectionTimeoutError:
            world.usage.count(deployment_id, 1.0)
    world.usage.flush(world.deployments)
    found = world.document(deployment_id)
    assert (found["request_count"], found["total_inference_time_ms"]) == (3, 7.0)
