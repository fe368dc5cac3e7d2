"""The client against the real service: what a user does with models."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from model_service.client import (
    Conflict,
    InvalidRequest,
    ModelServiceClient,
    NotFound,
)

DIGITS = {"name": "digits", "algorithm": "cnn", "framework": "pytorch", "tags": ["vision", "small"]}


def test_a_file_comes_back_as_it_went_up(client: ModelServiceClient, tmp_path: Path) -> None:
    content = os.urandom(5_000_000)
    source = tmp_path / "digits.pt2"
    source.write_bytes(content)

    model_id = client.register_model(DIGITS | {"metrics": {"accuracy": 0.97}})
    stored = client.upload_model(model_id, source)
    written = client.download_model(model_id, tmp_path / "back.pt2")

    assert written.read_bytes() == content
    assert stored.checksum == f"sha256:{sha256(content).hexdigest()}"
    model = client.get_model(model_id)
    assert (model.name, model.version, model.tags) == ("digits", "v1.0", ("vision", "small"))
    assert model.file_metadata == stored
    assert model.files[0].size_bytes == len(content)
    assert model.download_count == 1
    assert model.created_at is not None


def test_a_search_finds_what_matches_on_every_page(client: ModelServiceClient) -> None:
    good = [client.register_model(DIGITS | {"metrics": {"accuracy": 0.95}}) for _ in range(23)]
    client.register_model(DIGITS | {"metrics": {"accuracy": 0.5}})
    client.register_model({"name": "words", "algorithm": "transformer"})

    found = client.search_models(algorithm="cnn", min_accuracy=0.9, tags=["vision", "speech"])
    assert {model.id for model in found} == set(good)
    assert len(client.search_models(algorithm="cnn", limit=5)) == 5

    page = client.list_models(page=2, limit=10)
    assert (page.total, page.pages, len(page.items)) == (25, 3, 10)


def test_changes_and_deletion_are_seen(client: ModelServiceClient) -> None:
    model_id = client.register_model(DIGITS)
    changed = client.update_model(model_id, description="Handwritten digits", status="deprecated")
    assert (changed.description, changed.status) == ("Handwritten digits", "deprecated")
    assert client.delete_model(model_id)["deleted_id"] == model_id
    with pytest.raises(NotFound):
        client.get_model(model_id)


def test_the_services_refusals_are_typed(client: ModelServiceClient, tmp_path: Path) -> None:
    client.register_model(DIGITS | {"version": "v1.0"})
    with pytest.raises(Conflict):
        client.register_model(DIGITS | {"version": "v1.0"})
    with pytest.raises(InvalidRequest) as caught:
        client.register_model({"name": "digits"})
    assert caught.value.details["fields"][0]["field"] == "algorithm"
    with pytest.raises(InvalidRequest) as caught:
        client.get_model("nonsense")
    assert caught.value.code == "malformed_id"
    with pytest.raises(NotFound):
        client.download_model(client.register_model(DIGITS), tmp_path / "nothing.bin")
    assert not (tmp_path / "nothing.bin").exists()


def test_an_export_starts_pending_and_is_listed_with_its_model(
    client: ModelServiceClient, tmp_path: Path
) -> None:
    source = tmp_path / "digits.pt2"
    source.write_bytes(b"not yet looked at")
    model_id = client.register_model(DIGITS)
    client.upload_model(model_id, source)
    job = client.create_export(model_id, version_tag="first")
    assert (job.status, job.model_id, job.export_format) == ("pending", model_id, "onnx")
    assert [each.id for each in client.list_exports(model_id=model_id, status="pending")] == [job.id]
    with pytest.raises(Conflict):
        client.create_deployment(job.id, "digits")
    with pytest.raises(InvalidRequest) as caught:
        client.create_export(model_id, "punched_cards")
    assert caught.value.code == "unsupported_option"


def test_there_are_no_deployments_at_first(client: ModelServiceClient) -> None:
    assert client.list_deployments().items == ()
    with pytest.raises(NotFound):
        client.predict("00000000-0000-4000-8000-000000000000", [[1.0]])


@pytest.mark.parametrize("name", ["модель.onnx", "モデル.pt", "modèle v2.safetensors", "it's 100 %.npz"])
def test_a_folder_receives_a_file_under_the_name_it_had(
    client: ModelServiceClient, tmp_path: Path, name: str
) -> None:
    source, folder = tmp_path / name, tmp_path / "back"
    source.write_bytes(b"weights")
    folder.mkdir()
    model_id = client.register_model(DIGITS)
    assert client.upload_model(model_id, source).filename == name
    assert client.download_model(model_id, folder) == folder / name
    assert client.download_file(model_id, name, folder / "again") == folder / "again"
    assert client.download_zip(model_id, folder) == folder / "digits-v1.0.zip"
    dataset = client.register_dataset(name="digits", purpose="training")
    assert client.upload_dataset(dataset.id, source).filename == name
    assert client.download_dataset(dataset.id, folder).read_bytes() == b"weights"
