"""Every form that names a model, a dataset or a deployment, in every Python method and every CLI command."""

import inspect
import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from model_service.cli.app import app
from model_service.client import Conflict, InvalidArgument, ModelServiceClient, NotFound, WaitTimedOut
from model_service.storage.common.db import Database
from tests.api.finished import complete
from tests.api.inspected import arrays
from tests.api.inspected import inspect as inspect_dataset

MODEL = ("ID", "shop/cats@production", "shop/cats/latest", "shop/cats/v1.0", "shop/cats/1.0")
DATASET = ("ID", "shop/scans/latest", "shop/scans/v1.0", "shop/scans/1.0")
DEPLOYMENT = ("ID", "checkout")
FORMS = {
    "model": [*MODEL, *(f"models:/{form}" for form in MODEL)],
    "dataset": [*DATASET, *(f"datasets:/{form}" for form in DATASET)],
    "deployment": [*DEPLOYMENT, *(f"deployments:/{form}" for form in DEPLOYMENT)],
}
# Parameters of the client's methods that name such a thing.
PARAMETERS = {
    **dict.fromkeys(("model_id", "other_id"), "model"),
    "dataset_id": "dataset",
    **dict.fromkeys(("deployment_id", "deployment"), "deployment"),
}
METAVARS = {
    **dict.fromkeys(("MODEL", "[MODEL]", "OTHER"), "model"),
    **dict.fromkeys(("DATASET", "[ROLE=]DATASET"), "dataset"),
    "DEPLOYMENT": "deployment",
}


class World:
    """One of each, and what of them is asked for."""

    def __init__(self, client: ModelServiceClient, database: Database, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.file = folder / "a.bin"
        self.file.write_bytes(b"some bytes")
        self.rows = folder / "rows.npz"
        self.rows.write_bytes(arrays())
        self.model = client.register_model("shop/cats", algorithm="cnn")
        client.upload_model(self.model, self.file)
        client.set_alias(self.model, "production")
        self.dataset = client.register_dataset({"name": "shop/scans", "format": "npz"}).id
        client.upload_dataset(self.dataset, self.rows)
        inspect_dataset(database, self.dataset)
        self.job = client.create_export(self.model).id
        complete(database, self.job)
        made = client.create_deployment(self.job, "checkout")
        self.deployment, self.key = made.id, made.api_key
        self.deployment_keys = [client.create_deployment_key(made.id, f"k{n}").id for n in range(30)]

    def id_of(self, kind: str) -> str:
        return str(getattr(self, kind))

    def dependents(self) -> list[str]:
        """What has to be confirmed before a file of the model is removed."""
        with pytest.raises(Conflict) as refused:
            self.client.delete_file(self.model, "a.bin")
        found: list[str] = refused.value.details["confirm"]
        return found

    def removed_file(self) -> str:
        """The id of a file of the model in the trash."""
        self.client.upload_file(self.model, self.file, path="c.bin")
        self.client.delete_file(self.model, "c.bin", confirm=self.dependents())
        return self.client.list_deleted_files(self.model).items[0].id

    def removed_dataset_file(self) -> str:
        self.client.upload_dataset_file(self.dataset, self.file, path="c.bin")
        try:
            self.client.delete_dataset_file(self.dataset, "c.bin")
        except Conflict as refused:  # models were made from it by then
            self.client.delete_dataset_file(self.dataset, "c.bin", confirm=refused.details["confirm"])
        return self.client.list_deleted_dataset_files(self.dataset).items[0].id

    def new_file(self) -> Path:
        return self.folder / f"{len(list(self.folder.iterdir()))}.out"


@pytest.fixture
def world(client: ModelServiceClient, database: Database, tmp_path: Path) -> World:
    return World(client, database, tmp_path)


# Method, and kind where it takes two → its call with the name of the thing. What changes the thing leaves it
# as it was.
METHODS: dict[str, Callable[[World, str], Any]] = {
    "get_model": lambda w, m: w.client.get_model(m),
    "update_model": lambda w, m: w.client.update_model(m, description="d"),
    "new_version": lambda w, m: w.client.delete_model(w.client.new_version(m), purge=True),
    "delete_model": lambda w, m: w.client.restore_model(w.client.delete_model(m)["deleted_id"]),
    "restore_model": lambda w, m: w.client.delete_model(w.model) and w.client.restore_model(m),
    "model_lineage": lambda w, m: w.client.model_lineage(m),
    "compare_models": lambda w, m: w.client.compare_models(m, m),
    "set_alias": lambda w, m: w.client.set_alias(m, "production"),
    "delete_alias": lambda w, m: w.client.set_alias(w.model, "x") and w.client.delete_alias(m, "x"),
    "check_gate": lambda w, m: w.client.check_gate(m, "production"),
    "list_approvals": lambda w, m: w.client.list_approvals(m),
    "upload_model": lambda w, m: w.client.upload_model(m, w.file),
    "upload_file": lambda w, m: w.client.upload_file(m, w.file, path="b.bin"),
    "list_files": lambda w, m: w.client.list_files(m),
    "delete_file": lambda w, m: (
        w.client.upload_file(w.model, w.file, path="c.bin")
        and w.client.delete_file(m, "c.bin", confirm=w.dependents())
    ),
    "upload_files": lambda w, m: w.client.upload_files(m, {"b.bin": w.file}),
    "list_deleted_files": lambda w, m: w.client.list_deleted_files(m),
    "restore_file": lambda w, m: w.client.restore_file(m, w.removed_file(), confirm=w.dependents()),
    "purge_file": lambda w, m: w.client.purge_file(m, w.removed_file()),
    "list_deleted_dataset_files": lambda w, d: w.client.list_deleted_dataset_files(d),
    "restore_dataset_file": lambda w, d: w.client.restore_dataset_file(d, w.removed_dataset_file()),
    "purge_dataset_file": lambda w, d: w.client.purge_dataset_file(d, w.removed_dataset_file()),
    "presign_file": lambda w, m: w.client.presign_file(m),
    "download_model": lambda w, m: w.client.download_model(m, w.new_file()),
    "download_file": lambda w, m: w.client.download_file(m, "a.bin", w.new_file()),
    "download_zip": lambda w, m: w.client.download_zip(m, w.new_file()),
    "download_all": lambda w, m: w.client.download_all(m, w.folder / "all"),
    "create_export": lambda w, m: w.client.create_export(m),
    "list_exports": lambda w, m: w.client.list_exports(model_id=m).items[0],
    "create_evaluation model": lambda w, m: w.client.create_evaluation(w.dataset, model_id=m),
    "create_evaluation dataset": lambda w, d: w.client.create_evaluation(d, model_id=w.model),
    "wait_for_dataset": lambda w, d: w.client.wait_for_dataset(d),
    "get_dataset": lambda w, d: w.client.get_dataset(d),
    "update_dataset": lambda w, d: w.client.update_dataset(d, description="d"),
    "dataset_usage": lambda w, d: w.client.dataset_usage(d),
    "upload_dataset": lambda w, d: w.client.upload_dataset(d, w.rows),
    "upload_dataset_file": lambda w, d: w.client.upload_dataset_file(d, w.file, path="b.bin"),
    "list_dataset_files": lambda w, d: w.client.list_dataset_files(d),
    "delete_dataset_file": lambda w, d: (
        w.client.upload_dataset_file(w.dataset, w.file, path="c.bin")
        and w.client.delete_dataset_file(d, "c.bin")
    ),
    "download_dataset": lambda w, d: w.client.download_dataset(d, w.new_file()),
    "get_deployment": lambda w, d: w.client.get_deployment(d),
    "find_deployment": lambda w, d: w.client.find_deployment(d),
    "update_deployment": lambda w, d: w.client.update_deployment(d, description="d"),
    "replace_deployment": lambda w, d: w.client.replace_deployment(d, name="checkout", export_job_id=w.job),
    "scale_deployment": lambda w, d: w.client.scale_deployment(d, 1),
    "activate_deployment": lambda w, d: w.client.activate_deployment(d),
    "deactivate_deployment": lambda w, d: w.client.deactivate_deployment(d),
    "promote_deployment": lambda w, d: w.client.promote_deployment(d, "v1.0"),
    "deployment_history": lambda w, d: w.client.deployment_history(d),
    "deployment_usage": lambda w, d: w.client.deployment_usage(d),
    "deployment_logs": lambda w, d: w.client.deployment_logs(d),
    "create_deployment_key": lambda w, d: w.client.revoke_deployment_key(
        d, w.client.create_deployment_key(d, "k").id
    ),
    "list_deployment_keys": lambda w, d: w.client.list_deployment_keys(d),
    "rotate_deployment_key": lambda w, d: w.client.rotate_deployment_key(d, w.deployment_keys.pop()),
    "revoke_deployment_key": lambda w, d: w.client.revoke_deployment_key(d, w.deployment_keys.pop()),
}
# Shown by tests of their own: their things are gone afterwards, or they need a server that answers.
ELSEWHERE = {
    "approve",
    "withdraw_approval",
    "delete_dataset",
    "delete_deployment",
    "renew_deployment",
    "download_deployment",
    "rollback_deployment",
    "wait_for_deployment",
    "predict",
}


def kinds_of(method: str) -> set[str]:
    parameters = inspect.signature(getattr(ModelServiceClient, method)).parameters
    return {PARAMETERS[name] for name in parameters if name in PARAMETERS}


def test_the_table_has_every_method() -> None:
    public = [name for name, _ in inspect.getmembers(ModelServiceClient, callable) if name[0] != "_"]
    named = set()
    for name in public:
        kinds = kinds_of(name)
        named |= {f"{name} {kind}" for kind in kinds} if len(kinds) > 1 else {name for _ in kinds}
    assert named == METHODS.keys() | ELSEWHERE


def test_every_method_takes_every_form(world: World) -> None:
    for key, call in METHODS.items():
        method, _, kind = key.partition(" ")
        kind = kind or next(iter(kinds_of(method)))
        for form in FORMS[kind]:
            found = call(world, form.replace("ID", world.id_of(kind)))
            if method.startswith("get_"):
                assert found.id == world.id_of(kind), (method, form)


@pytest.mark.parametrize("form", FORMS["dataset"])
def test_a_dataset_is_deleted_by_any_form(client: ModelServiceClient, form: str) -> None:
    made = client.register_dataset(name="shop/scans", version="v1.0")
    assert client.delete_dataset(form.replace("ID", made.id))["deleted_id"] == made.id
    with pytest.raises(NotFound):
        client.get_dataset(made.id)


def test_a_package_is_renewed_and_downloaded_by_its_name(world: World, tmp_path: Path) -> None:
    world.client.create_deployment(world.job, "mobile", deployment_type="download")
    assert world.client.renew_deployment("mobile", 60).download_url is not None
    assert world.client.download_deployment("deployments:/mobile", tmp_path).stat().st_size > 0


def test_a_deployment_is_deleted_rolled_back_and_waited_for_by_its_name(world: World) -> None:
    with pytest.raises(Conflict):  # it is its first revision
        world.client.rollback_deployment("checkout")
    with pytest.raises(WaitTimedOut):
        world.client.wait_for_deployment("checkout", timeout_s=0)
    assert world.client.delete_deployment("checkout")["deleted_id"] == world.deployment


def test_a_name_with_its_namespace_alone_is_refused(client: ModelServiceClient) -> None:
    for call in (client.get_model, client.get_dataset, client.get_deployment):
        with pytest.raises(InvalidArgument, match="shop/cats"):
            call("shop/cats")


# Command → its words after the name of the thing, which stands where it says so.
COMMANDS: dict[str, str] = {
    "models register": "new{n} cnn --parent-model-id MODEL --dataset {dataset}",
    "models register --dataset": "more{n} cnn --dataset DATASET",
    "models new-version": "{model} --dataset DATASET --version v0.{n}",
    "models new-version MODEL": "MODEL --version v0.{n}",
    "models upload": "MODEL {file}",
    "models get": "MODEL",
    "models show": "MODEL",
    "models update": "MODEL --description d",
    "models update --dataset": "{model} --dataset DATASET",
    "models download": "MODEL {new}",
    "models presign": "MODEL",
    "models lineage": "MODEL",
    "models compare": "MODEL {model}",
    "models compare OTHER": "{model} MODEL",
    "models list --parent": "--parent MODEL",
    "models search --parent": "--parent MODEL",
    "models delete": "MODEL",
    "models restore": "MODEL",
    "models alias set": "MODEL production",
    "models alias remove": "MODEL x",
    "models approvals": "MODEL",
    "gate": "MODEL production",
    "models files list": "MODEL",
    "models files put": "MODEL {file}",
    "models files get": "MODEL a.bin {new}",
    "models files get-all": "MODEL {folder}/all",
    "models files zip": "MODEL {new}",
    "models files delete": "MODEL c.bin --confirm {confirm}",
    "models files deleted": "MODEL",
    "models files restore": "MODEL {removed} --confirm {confirm}",
    "datasets deleted-files": "DATASET",
    "datasets restore-file": "DATASET {removed_dataset} --confirm {dataset_confirm}",
    "datasets upload": "DATASET {rows}",
    "datasets get": "DATASET",
    "datasets update": "DATASET --description d",
    "datasets files": "DATASET",
    "datasets download": "DATASET {new}",
    "datasets usage": "DATASET",
    "training create": "run --dataset DATASET",
    "training create --dataset": "run --dataset calibration=DATASET",
    "training list": "--dataset-id DATASET",
    "evaluate": "MODEL --dataset {dataset}",
    "evaluate --dataset": "{model} --dataset DATASET",
    "evaluations list": "--model-id MODEL",
    "evaluations list --dataset": "--dataset DATASET",
    "exports create": "MODEL",
    "exports list": "--model-id MODEL",
    "deployments get": "DEPLOYMENT",
    "deployments show": "DEPLOYMENT",
    "deployments update": "DEPLOYMENT --description d",
    "deployments scale": "DEPLOYMENT 1",
    "deployments promote": "DEPLOYMENT v1.0",
    "deployments deactivate": "DEPLOYMENT",
    "deployments activate": "DEPLOYMENT",
    "deployments history": "DEPLOYMENT",
    "deployments usage": "DEPLOYMENT",
    "deployments logs": "DEPLOYMENT",
    "deployments keys create": "DEPLOYMENT k",
    "deployments keys list": "DEPLOYMENT",
    "deployments keys rotate": "DEPLOYMENT {key}",
    "deployments keys revoke": "DEPLOYMENT {key}",
}
COMMANDS_ELSEWHERE = {
    "models approve",
    "models withdraw-approval",
    "datasets delete",
    "deployments delete",
    "deployments download",
    "deployments renew",
    "deployments rollback",
    "deployments watch",
    "predict",
}
BEFORE: dict[str, Callable[[World], Any]] = {
    "models alias remove": lambda w: w.client.set_alias(w.model, "x"),
    "models files delete": lambda w: w.client.upload_file(w.model, w.file, path="c.bin"),
    "models restore": lambda w: w.client.delete_model(w.model),
}
AFTER: dict[str, Callable[[World], Any]] = {"models delete": lambda w: w.client.restore_model(w.model)}


def naming(command: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each command with a parameter that names such a thing."""
    for name, each in getattr(command, "commands", {}).items():
        yield from naming(each, f"{path} {name}".strip())
    for parameter in command.params:
        if kind := METAVARS.get(str(parameter.metavar)):
            yield path, kind


def test_the_table_has_every_command() -> None:
    tabled = set()
    for name, words in COMMANDS.items():
        command = " ".join(word for word in name.split() if word.islower() and word[0] != "-")
        tabled |= {(command, word.lower()) for word in ("MODEL", "DATASET", "DEPLOYMENT") if word in words}
    found = {each for each in naming(typer.main.get_command(app)) if each[0] not in COMMANDS_ELSEWHERE}
    assert found == tabled


def test_every_command_takes_every_form(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.testing._get_command", cache(typer.main.get_command))  # made once for all
    runner = CliRunner()
    numbers = count(1)
    for name, template in COMMANDS.items():
        command = [word for word in name.split() if word.islower() and word[0] != "-"]
        kind = next(kind for kind in FORMS if kind.upper() in template)
        for form in FORMS[kind]:
            BEFORE.get(name, id)(world)
            words = [
                word.format(
                    n=next(numbers),
                    model=world.model,
                    dataset=world.dataset,
                    file=world.file,
                    rows=world.rows,
                    folder=world.folder,
                    new=world.new_file(),
                    key=world.deployment_keys[-1],
                    confirm=",".join(world.dependents()) if "{confirm}" in word else "",
                    dataset_confirm=",".join(
                        model["id"] for model in world.client.dataset_usage(world.dataset)["models"]
                    )
                    or "none",
                    removed=world.removed_file() if word == "{removed}" else "",
                    removed_dataset=world.removed_dataset_file() if word == "{removed_dataset}" else "",
                ).replace(kind.upper(), form.replace("ID", world.id_of(kind)))
                for word in template.split()
            ]
            if "{key}" in template:
                world.deployment_keys.pop()
            done = runner.invoke(app, ["--url", world.client.base_url, *command, *words, "--json"])
            assert done.exit_code == 0, (command, words, done.output, done.exception)
            assert json.loads(done.stdout), (command, words)
            AFTER.get(name, id)(world)
