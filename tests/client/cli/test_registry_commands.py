"""The registry's commands, against the real service: what README tells, and what a person sees."""

import os
import re
import shlex
from contextlib import chdir
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pytest

from model_service.client import ModelServiceClient

from ..scripted import Scripted, answers
from ..transport.test_http import error
from .test_cli import result, run


def test_a_name_with_its_namespace_alone_is_refused_before_anything_is_sent() -> None:
    done = run("models", "get", "vision/digits")
    assert (done.returncode, "vision/digits@ALIAS" in done.stderr) == (1, True)


def test_register_search_alias_download(service_url: str, tmp_path: Path) -> None:
    source, back = tmp_path / "digits.bin", tmp_path / "back.bin"
    source.write_bytes(os.urandom(10_000))
    for accuracy in (0.97, 0.98):
        metrics = f'{{"accuracy": {accuracy}}}'
        words = ("vision/digits", "convnet", "--metrics", metrics, "--tag", "scans", "--file", str(source))
        result("models", "register", *words, url=service_url)

    found = result("models", "search", "digits", "--min", "accuracy=0.975", url=service_url)
    assert [model["version"] for model in found["models"]] == ["v1.1"]
    alias = result("models", "alias", "set", "vision/digits/v1.1", "production", url=service_url)
    assert alias["reference"] == "models:/vision/digits@production"
    result("models", "download", "vision/digits@production", str(back), url=service_url)
    assert back.read_bytes() == source.read_bytes()

    shown = run("models", "list", "--alias", "production", "--sort", "name", url=service_url).stdout
    assert found["models"][0]["id"] in shown
    assert "production" in shown
    listed = run("models", "alias", "list", "vision/digits", url=service_url).stdout
    assert "models:/vision/digits@production" in listed
    moved = run("models", "alias", "set", "vision/digits/1.0", "production", url=service_url).stdout
    assert moved.startswith("models:/vision/digits@production is vision/digits v1.0, ")
    removed = run("models", "alias", "remove", "vision/digits/1.0", "production", url=service_url)
    assert removed.stdout == "vision/digits v1.0 no longer has the alias production.\n"
    gone = run("models", "get", "vision/digits@production", url=service_url)
    assert (gone.returncode, gone.stderr[:17]) == (1, "error: not_found:")
    unclear = run("models", "get", "digits", url=service_url)
    assert "digits@ALIAS" in unclear.stderr


def test_the_tour_in_the_readme(service_url: str, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    commands, code = re.findall(
        r"```(?:bash|python)\n(.*?)```", readme.partition("## A tour of the registry")[2], re.DOTALL
    )[:2]
    (tmp_path / "digits.pt2").write_bytes(os.urandom(1000))
    for line in commands.splitlines():
        _, *words = shlex.split(line)
        done = run(*words, url=service_url, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), line
        if "search" in words:
            assert "v1.1" in done.stdout
            assert "v1.0" not in done.stdout
    written = tmp_path / "production.pt2"
    assert written.read_bytes() == (tmp_path / "digits.pt2").read_bytes()
    with ModelServiceClient(service_url) as client, chdir(tmp_path):
        written.unlink()
        exec(code, {"client": client})  # the README's own
    assert written.exists()


def test_a_list_goes_on_at_its_cursor(service_url: str) -> None:
    for _ in range(3):
        result("models", "register", "digits", "cnn", url=service_url)
    first = result("models", "list", "--limit", "2", url=service_url)
    cursor = first["pagination"]["next_cursor"]
    rest = run("models", "list", "--limit", "2", "--cursor", cursor, url=service_url).stdout
    assert rest.splitlines()[-1] == "1 found."
    assert first["models"][0]["id"] not in rest
    wrong = run("models", "search", "--max", "loss", url=service_url)
    assert (wrong.returncode, "loss" in wrong.stderr) == (2, True)


def test_versions_are_made_compared_and_traced(service_url: str) -> None:
    first = result(
        *("models", "register", "digits", "cnn", "--metrics", '{"accuracy": 0.9}', "--tag", "old"),
        url=service_url,
    )
    second = result(
        *("models", "new-version", "digits/latest", "--breaking-changes", "--tag", "new"),
        *("--metrics", '{"accuracy": 0.95}', "--idempotency-key", "k"),
        url=service_url,
    )
    assert (second["version"], second["parent_model_id"]) == ("v2.0", first["id"])
    again = run("models", "update", second["id"], "--revision", "1", "--description", "x", url=service_url)
    assert again.returncode == 0
    stale = run("models", "update", second["id"], "--revision", "1", "--tag", "x", url=service_url)
    assert stale.stderr.startswith("error: precondition_failed: ")

    shown = run("models", "compare", "digits/v1.0", "digits/v2.0", url=service_url).stdout
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in shown.splitlines()[2:]}
    assert rows[("metric", "accuracy")] == ["0.9", "0.95", "+0.05", "(+5.56%)"]
    assert rows[("field", "parent_model_id")] == [first["id"]]
    assert rows[("tag", "new")] == ["yes"]
    same = run("models", "compare", "digits/v1.0", "digits/v1.0", url=service_url).stdout
    assert same == "digits v1.0 and digits v1.0 do not differ.\n"
    lineage = run("models", "lineage", second["id"], url=service_url).stdout.splitlines()
    assert [line.split()[:2] for line in lineage[2:4]] == [[first["id"], "parent"], [second["id"], "itself"]]


def test_the_trash_gives_back(service_url: str) -> None:
    model = result("models", "register", "digits", "cnn", url=service_url)
    deleted = run("models", "delete", "digits/latest", url=service_url)
    assert deleted.stdout == f"Deleted {model['id']}.\n"
    assert f"models restore {model['id']}" in deleted.stderr
    assert model["id"] in run("models", "deleted", url=service_url).stdout
    assert result("models", "restore", model["id"], url=service_url)["version"] == "v1.0"
    purged = run("models", "delete", model["id"], "--purge", url=service_url)
    assert (purged.stderr, result("models", "deleted", url=service_url)["models"]) == ("", [])


def test_files_at_paths(service_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(os.urandom(1000))
    (folder / "tokenizer" / "vocab.txt").write_text("words")
    model = result("models", "register", "digits", "cnn", url=service_url)
    stored = result("models", "files", "put", model["id"], str(folder), "--path", "v1", url=service_url)
    assert [file["path"] for file in stored["files"]] == ["v1/tokenizer/vocab.txt", "v1/weights.bin"]
    single = run(
        *("models", "files", "put", "digits/latest", str(folder / "weights.bin"), "--primary"),
        url=service_url,
    )
    assert single.stdout == "weights.bin  1.0 kB\n"
    listed = run("models", "files", "list", model["id"], url=service_url).stdout
    assert "v1/tokenizer/vocab.txt" in listed
    assert listed.splitlines()[-1] == "3 files, 2.0 kB."

    got = tmp_path / "got.txt"
    result("models", "files", "get", model["id"], "v1/tokenizer/vocab.txt", str(got), url=service_url)
    assert got.read_text() == "words"
    result("models", "files", "zip", model["id"], str(tmp_path / "all.zip"), url=service_url)
    with ZipFile(tmp_path / "all.zip") as archive:
        assert len(archive.namelist()) == 3
    result("models", "files", "get-all", model["id"], str(tmp_path / "copy"), url=service_url)
    assert (tmp_path / "copy/v1/weights.bin").read_bytes() == (folder / "weights.bin").read_bytes()

    url = run("models", "presign", "digits/latest", "--expires", "60", url=service_url).stdout.strip()
    with urlopen(url) as answer:
        assert answer.read() == (folder / "weights.bin").read_bytes()
    deleted = run("models", "files", "delete", model["id"], "v1/weights.bin", url=service_url)
    assert deleted.stdout == "Deleted v1/weights.bin.\n"
    refused = run("models", "files", "put", model["id"], str(folder), "--primary", url=service_url)
    assert refused.returncode == 2
    assert (
        "There is no file"
        in run("models", "files", "put", model["id"], "/no/such/file", url=service_url).stderr
    )


def test_statistics_for_a_person(service_url: str) -> None:
    result("models", "register", "digits", "cnn", url=service_url)
    shown = run("statistics", url=service_url).stdout
    assert re.search(r"^models +1$", shown, re.MULTILINE)
    assert re.search(r"^by algorithm +cnn=1$", shown, re.MULTILINE)
    assert result("statistics", url=service_url)["total_models"] == 1


def test_a_registration_whose_upload_failed_says_how_to_go_on(script: Scripted, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"x")
    script.steps = [answers(201, b'{"model_id": "m1"}'), answers(413, error("file_too_large"))]
    done = run("models", "register", "digits", "cnn", "--file", str(source), url=script.url)
    assert done.returncode == 1
    assert f"model-service models upload m1 {source}" in done.stderr


@pytest.mark.parametrize("columns", ["80"])
@pytest.mark.parametrize("words", [("models", "list"), ("keys", "list"), ("audit",), ("users", "list")])
def test_lists_fit_a_terminal(service_url: str, columns: str, words: tuple[str, ...]) -> None:
    result("models", "register", "a-name-of-some-length", "gradient_boosting", url=service_url)
    result("users", "create", "alice", "--machine", "--namespace-role", "vision=writer", url=service_url)
    result("keys", "create", "ci", "--owner", "alice", "--days", "7", url=service_url)
    shown = run(*words, url=service_url, COLUMNS=columns, FORCE_COLOR="1", TERM="xterm").stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "alice" in plain or "a-name-of-some-length" in plain
    table = plain.rstrip().splitlines()[:-1]
    assert max(len(line.rstrip()) for line in table) <= int(columns)
