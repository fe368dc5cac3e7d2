"""What is served follows the database, and nothing is served that was not proven here too."""

import io
import zipfile

from pymongo.errors import ServerSelectionTimeoutError

from tests.serving.conftest import World


def status(world: World, deployment_id: str) -> tuple[str, str | None]:
    found = world.deployments.get(deployment_id)
    assert found is not None
    return found["status"], found.get("error_message")


def history(world: World, deployment_id: str) -> list[tuple[str | None, str | None]]:
    found = world.database.deployment_history.find({"deployment_target_id": deployment_id}).sort("_id", 1)
    return [(event["status_before"], event["status_after"]) for event in found]


def rewritten(archive: bytes, name: str, content: bytes) -> bytes:
    """The package with one file's content changed; the manifest says what it said."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(result, "w") as target:
        for info in source.infolist():
            target.writestr(info, content if info.filename == name else source.read(info))
    return result.getvalue()


def test_a_pending_deployment_becomes_active(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.host()
    host.sync()
    assert host.find(deployment_id) is not None
    assert status(world, deployment_id) == ("active", None)
    assert history(world, deployment_id) == [("pending", "deploying"), ("deploying", "active")]


def test_a_restarted_server_serves_what_was_active(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    world.host().sync()
    restarted = world.host()
    restarted.sync()
    assert restarted.find(deployment_id) is not None
    assert history(world, deployment_id)[-1] == ("deploying", "active")


def test_a_deleted_deployment_is_served_no_more_and_its_files_go(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.host()
    host.sync()
    folder = world.store.folder
    assert len(list(folder.iterdir())) == 1
    world.database.transaction(lambda session: world.deployments.delete(deployment_id, session))
    host.sync()
    assert host.find(deployment_id) is None
    assert list(folder.iterdir()) == []


def test_a_changed_artefact_is_refused(world: World, package_zip: bytes) -> None:
    good = world.deploy(package_zip)
    bad = world.deploy(rewritten(package_zip, "model.onnx", b"other bytes"))
    host = world.host()
    host.sync()
    state, message = status(world, bad)
    assert state == "failed"
    assert message is not None
    assert "model.onnx" in message
    assert host.find(bad) is None
    assert host.find(good) is not None


def test_what_is_no_package_is_refused(world: World) -> None:
    deployment_id = world.deploy(b"this is no zip")
    world.host().sync()
    assert status(world, deployment_id)[0] == "failed"


def test_a_new_key_is_known_without_a_reload(world: World, package_zip: bytes) -> None:
    deployment_id = world.deploy(package_zip)
    host = world.host()
    host.sync()
    before = host.find(deployment_id)
    world.database.api_keys.delete_many({"deployment_id": deployment_id})
    host.sync()
    after = host.find(deployment_id)
    assert before is not None
    assert after is not None
    assert after.key_hashes == ()
    assert after.runner is before.runner


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
    found = world.deployments.get(deployment_id)
    assert found is not None
    assert (found["request_count"], found["total_inference_time_ms"]) == (3, 7.0)
