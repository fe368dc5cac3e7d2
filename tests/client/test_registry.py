"""The registry through the client, against the real service."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from model_service.client import (
    ChecksumMismatch,
    ClientError,
    Conflict,
    InvalidRequest,
    ModelServiceClient,
    NotFound,
    PreconditionFailed,
    TransferFailed,
)

from .conftest import Service
from .scripted import Scripted, Step, answers, serves

DIGITS = {"name": "vision/digits", "algorithm": "cnn", "tags": ["small"], "metrics": {"accuracy": 0.9}}


def test_an_alias_is_a_models_name_everywhere(client: ModelServiceClient, tmp_path: Path) -> None:
    first, second = client.register_model(DIGITS), client.register_model(DIGITS)
    content = os.urandom(1000)
    source = tmp_path / "digits.bin"
    source.write_bytes(content)
    alias = client.set_alias(first, "production")
    assert (alias.reference, alias.version) == ("models:/vision/digits@production", "v1.0")

    client.upload_model(alias.reference, source)
    assert client.download_model(alias.reference, tmp_path / "back").read_bytes() == content
    assert client.get_model(alias.reference).id == first
    assert client.get_model("models:/vision/digits/1.1").id == second
    assert client.get_model("models:/vision/digits/latest").id == second
    job = client.create_export(alias.reference)
    assert job.model_id == first
    assert [each.id for each in client.list_exports(model_id=alias.reference)] == [job.id]
    client.upload_file(alias.reference, source, path="extra/é ü.bin")
    got = client.download_file(alias.reference, "extra/é ü.bin", tmp_path / "extra")
    assert got.read_bytes() == content
    assert client.update_model(alias.reference, description="ours").id == first

    client.set_alias(second, "production")
    client.set_alias(second, "canary")
    assert client.get_model(alias.reference).aliases == ("canary", "production")
    assert client.get_model(first).aliases == ()
    listed = client.list_aliases("vision/digits")
    assert {(each.alias, each.model_id) for each in listed} == {("production", second), ("canary", second)}
    client.delete_alias(alias.reference, "production")
    with pytest.raises(NotFound):
        client.get_model(alias.reference)
    with pytest.raises(InvalidRequest):
        client.set_alias(first, "v2.0")


def test_versions_follow_each_other_and_remember_their_parent(client: ModelServiceClient) -> None:
    first = client.register_model(DIGITS, metrics={"accuracy": 0.8})
    child = client.new_version(first, metrics={"accuracy": 0.85})
    breaking = client.new_version("models:/vision/digits/v1.1", breaking_changes=True, tags=["large"])
    assert [client.get_model(each).version for each in (first, child, breaking)] == ["v1.0", "v1.1", "v2.0"]
    named = client.register_model(DIGITS, parent_model_id="models:/vision/digits/v2.0", breaking_changes=True)
    assert client.get_model(named).parent_model_id == breaking

    lineage = client.model_lineage(child)
    assert [model["id"] for model in lineage["ancestors"]] == [first]
    assert [model["id"] for model in lineage["descendants"]] == [breaking, named]
    assert client.model_lineage(child, limit=1)["truncated"]
    compared = client.compare_models("models:/vision/digits/1.0", breaking)
    assert compared["tags"] == {"added": ["large"], "removed": ["small"]}
    assert compared["metrics"]["changed"]["accuracy"]["from"] == 0.8


def test_a_change_does_not_overwrite_anothers(client: ModelServiceClient) -> None:
    model = client.get_model(client.register_model(DIGITS))
    changed = client.update_model(model.id, revision=model.revision, description="mine")
    with pytest.raises(PreconditionFailed) as caught:
        client.update_model(model.id, revision=model.revision, description="yours")
    assert caught.value.details["etag"] == f'"r{changed.revision}"'
    assert client.get_model(model.id).description == "mine"
    assert client.update_model(model.id, description=None).description is None
    client.update_model(model.id, status="archived")
    with pytest.raises(Conflict) as refused:
        client.update_model(model.id, status="deprecated")
    assert refused.value.details["allowed"] == ["active"]


def test_what_was_deleted_can_be_brought_back_until_it_is_purged(client: ModelServiceClient) -> None:
    kept, purged = client.register_model(DIGITS), client.register_model(DIGITS)
    client.set_alias(kept, "production")
    client.delete_model("models:/vision/digits@production")
    client.delete_model(purged, purge=True)
    (trash,) = client.list_deleted_models()
    assert (trash.id, trash.purged_after > datetime.now(UTC) + timedelta(days=29)) == (kept, True)
    assert client.restore_model(kept).aliases == ("production",)
    with pytest.raises(NotFound):
        client.restore_model(purged)
    assert client.list_deleted_models().total == 0


def test_the_same_key_registers_once(client: ModelServiceClient) -> None:
    made = {client.register_model(DIGITS, idempotency_key="run-7") for _ in range(3)}
    assert len(made) == 1
    versions = {client.new_version(made.copy().pop(), idempotency_key="run-8") for _ in range(2)}
    assert len(versions) == 1
    assert client.list_models().total == 2


def test_many_changes_go_in_one_request(client: ModelServiceClient) -> None:
    model_id = client.register_model(DIGITS)
    done = client.batch(
        [
            {"op": "tag", "id": "models:/vision/digits/latest", "tags": ["good"]},
            {"op": "alias", "id": model_id, "alias": "production"},
            {"op": "delete", "id": "models:/nothing/latest"},
        ]
    )
    assert [(each["ok"], each["status"]) for each in done["results"]] == [
        (True, 200),
        (True, 200),
        (False, 404),
    ]
    model = client.get_model(model_id)
    assert (model.tags, model.aliases) == (("small", "good"), ("production",))


def test_a_search_by_words_metrics_and_tags_in_any_order(client: ModelServiceClient) -> None:
    for number in range(7):
        client.register_model(
            name=f"net{number}",
            algorithm="cnn",
            description="reads handwriting",
            metrics={"val": {"loss": number / 10}},
            tags=["even" if number % 2 == 0 else "odd", "all"],
        )
    client.register_model(name="words", algorithm="transformer")

    def names(**filters: object) -> list[str]:
        return [model.name for model in client.search_models(**filters)]

    assert names(q="handwriting", sort="-metrics.val.loss")[:2] == ["net6", "net5"]
    bounds = {"max_metrics.val.loss": 0.5, "min_metrics.val.loss": 0.2}
    assert names(**bounds, sort="name") == ["net2", "net3", "net4", "net5"]
    assert names(all_tags=["odd", "all"], sort="name") == ["net1", "net3", "net5"]
    assert names(created_after=datetime.now(UTC) + timedelta(days=1)) == []
    assert names(tags="odd,even", limit=3, sort="name", page=3) == ["net6"]

    every = list(client.iter_models(page_size=3, sort="name"))
    assert [model.name for model in every] == [f"net{number}" for number in range(7)] + ["words"]
    assert every[0]["algorithm"] == "cnn"  # as of a plain answer
    seen = []
    for model in client.iter_models(page_size=2):
        seen.append(model.id)
        if len(seen) == 2:
            client.register_model(name="late", algorithm="cnn")
    assert sorted(seen) == sorted(model.id for model in every)

    page = client.list_models(limit=3)
    assert (page.page, page.total, page.pages) == (1, 9, 3)
    after = client.list_models(limit=3, cursor=page.next_cursor)
    assert (after.page, after.total, len(after.items)) == (None, None, 3)


def test_what_is_there_and_what_is_used(client: ModelServiceClient, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"x" * 100)
    quiet, used = client.register_model(DIGITS), client.register_model(DIGITS)
    client.upload_model(used, source)
    client.download_model(used, tmp_path / "back")
    assert [model.id for model in client.popular_models(limit=1)] == [used]
    assert [model.id for model in client.recent_models()] == [used, quiet]
    told = client.statistics()
    assert (told["total_models"], told["total_downloads"], told["algorithms"]) == (2, 1, {"cnn": 2})
    assert client.download_statistics(days=2)["total"] == 1


def test_a_versions_files_come_as_a_folder_and_as_a_zip(client: ModelServiceClient, tmp_path: Path) -> None:
    model_id = client.register_model(DIGITS)
    contents = {"weights.bin": os.urandom(3_000_000), "tokenizer/vocab é.txt": b"words"}
    for place, content in contents.items():
        source = tmp_path / "source"
        source.write_bytes(content)
        client.upload_file(model_id, source, path=place)

    written = client.download_zip("models:/vision/digits/latest", tmp_path / "all.zip")
    with ZipFile(written) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
    folder = tmp_path / "folder"
    client.download_all("models:/vision/digits/latest", folder)
    assert {place: (folder / place).read_bytes() for place in contents} == contents
    url = client.presign_file(model_id)
    assert url.partition("?")[0].endswith("/files/weights.bin")


def test_a_broken_service_registers_once_all_the_same(service: Service, client: ModelServiceClient) -> None:
    """The key outlives the service: the repetition is answered by another process."""
    made = client.register_model(DIGITS, idempotency_key="once")
    service.kill()
    service.start()
    assert client.register_model(DIGITS, idempotency_key="once") == made
    assert client.list_models().total == 1


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda content: serves(content, cut_at=len(content) - 30), TransferFailed),
        (lambda content: answers(200, content[:-30]), TransferFailed),
        (lambda content: answers(200, content.replace(b"weights", b"weighty", 1)), ChecksumMismatch),
    ],
    ids=["broken", "cut short", "damaged"],
)
def test_a_zip_that_is_not_whole_is_not_kept(
    script: Scripted, tmp_path: Path, damage: Callable[[bytes], Step], kind: type[ClientError]
) -> None:
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("model.bin", b"the weights")
    script.steps = [damage(buffer.getvalue())]
    with pytest.raises(kind):
        ModelServiceClient(script.url).download_zip("m1", tmp_path / "all.zip")
    assert list(tmp_path.iterdir()) == []
