"""Uploaded files are looked at by a worker, afterwards, once for the same bytes."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_service.jobs import scan as scan_module
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.queue import SCANS, Queue
from model_service.jobs.reconcile import Reconciler
from model_service.jobs.scan import scan
from model_service.services import Services
from model_service.services.files.files import NewFile
from model_service.services.models.replacement import Consent
from tests.factories import model_fields

MARK = Path("/tmp/model-service-scanned")


class RunsCode:
    def __reduce__(self) -> Any:
        return os.system, (f"touch {MARK}",)


def uploaded(services: Services, *contents: bytes, name: str = "digits") -> str:
    model = services.models.register(model_fields(name=name))
    for number, content in enumerate(contents):
        services.files.store(model, iter([content]), NewFile.at(f"f{number}.pkl"), sha256=None)
    return str(model["_id"])


def findings(services: Services, model_id: str) -> list[dict[str, Any] | None]:
    return [file.get("scan") for file in services.models.get(model_id)["files"]]


def test_what_was_uploaded_waits_for_a_scan_and_is_shown_with_it(
    context: Context, services: Services, queue: Queue
) -> None:
    hostile, harmless = pickle.dumps(RunsCode()), pickle.dumps({"weights": [1.0, 2.0]})
    model_id = uploaded(services, hostile, harmless)
    before = services.models.get(model_id)
    assert findings(services, model_id) == [None, None]
    Reconciler(context, queue).reconcile()
    assert queue.waiting(SCANS) == [model_id]
    scan(model_id)
    bad, good = findings(services, model_id)
    assert bad is not None
    assert good is not None
    assert (bad["safe"], good["safe"]) == (False, True), (bad, good)
    assert "system" in str(bad["globals"])
    assert bad["scanners"]
    assert not MARK.exists()
    assert services.models.get(model_id)["revision"] == before["revision"]
    assert context.stores.scans.waiting() == []
    scan(model_id)  # delivered twice: nothing happens
    assert findings(services, model_id) == [bad, good]
    assert not list(context.settings.home.glob("work/*/*/file*"))


def test_the_same_bytes_are_looked_at_once(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        scan_module, "_SCAN", 'print(\'{"verdict": "safe", "safe": true, "scanners": {"ours": "1"}}\')'
    )
    first = uploaded(services, b"the same bytes")
    scan(first)
    monkeypatch.setattr(scan_module, "_SCAN", "raise SystemExit('nobody asks again')")
    second = uploaded(services, b"the same bytes", name="other")
    scan(second)
    assert findings(services, second) == findings(services, first)
    other = uploaded(services, b"other bytes", name="third")
    scan(other)
    assert findings(services, other)[0]["scanners"] == {}  # type: ignore[index]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "failed"),
        ("print('no JSON')", "no result"),
        ("print('[' * 10 ** 6)", "no result"),
        ("while True: pass", "too long"),
        ("open('big', 'wb').write(b'0' * 10 ** 7)", "failed"),
    ],
)
def test_a_scan_that_comes_to_nothing_says_so(
    context: Context,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    reason: str,
) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    monkeypatch.setattr(scan_module, "_SCAN", limited + program)
    monkeypatch.setattr(scan_module, "_TIME_S", 1)
    model_id = uploaded(services, b"bytes")
    scan(model_id)
    (found,) = findings(services, model_id)
    assert found is not None
    assert (found["safe"], reason in found["issues"][0]) == (None, True), found


def test_a_name_in_a_file_that_cannot_be_stored_is_replaced(context: Context, services: Services) -> None:
    """pickle's text may hold half of a surrogate pair, which is no text of MongoDB."""
    half = "\ud800".encode("utf-8", "surrogatepass")
    names = b"\x8c\x05os" + half + b"\x8c\x06system"
    model_id = uploaded(services, b"\x80\x04" + names + b"\x93.")
    scan(model_id)
    (found,) = findings(services, model_id)
    assert found is not None
    assert "os?" in str(found), found


def test_a_file_that_comes_while_another_is_scanned_is_not_forgotten(
    context: Context, services: Services
) -> None:
    model_id = uploaded(services, b"first")
    scans = context.stores.scans
    note = scans.begin(model_id, 60)
    assert note is not None
    assert scans.begin(model_id, 60) is None
    assert scans.waiting() == []
    services.files.store(services.models.get(model_id), iter([b"second"]), NewFile.at("g.pkl"), sha256=None)
    scans.end(note)
    assert scans.waiting() == [model_id]


def test_a_file_that_was_replaced_meanwhile_does_not_get_the_others_finding(
    context: Context, services: Services
) -> None:
    model_id = uploaded(services, b"first")
    scans = context.stores.scans
    model = services.models.get(model_id)
    (old,) = scans.unscanned(model["_id"])
    services.files.store(
        model, iter([b"second"]), NewFile.at("f0.pkl"), sha256=None, consent=lambda: Consent(replace=True)
    )
    scans.record(model["_id"], old, {"verdict": "of the first"})
    assert findings(services, model_id) == [None]


def test_a_worker_that_stops_leaves_the_rest_to_another(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "_SCAN", "while True: pass")
    model_id = uploaded(services, b"bytes")
    context.stopping.set()
    scan(model_id)
    assert findings(services, model_id) == [None]
    assert context.stores.scans.waiting() == [model_id]


def test_what_always_kills_its_worker_is_given_up(context: Context, services: Services) -> None:
    model_id = uploaded(services, b"bytes")
    scans = context.stores.scans
    for _ in range(3):
        note = scans.begin(model_id, 60)
        assert note is not None
        scans.put_back(note)
    scan(model_id)
    (found,) = findings(services, model_id)
    assert found is not None
    assert "did not finish" in found["issues"][0]


def test_a_model_that_is_gone_is_no_longer_noted(context: Context, services: Services) -> None:
    model_id = uploaded(services, b"bytes")
    services.models.delete(model_id, purge=True)
    scan(model_id)
    assert context.stores.scans.waiting() == []


def test_a_file_larger_than_a_conversion_may_have_is_not_fetched(
    context: Context, services: Services
) -> None:
    model_id = uploaded(services, b"bytes")
    small = replace(context, settings=context.settings.model_copy(update={"export_disk": 3}))
    token = CONTEXT.set(small)
    scan(model_id)
    CONTEXT.reset(token)
    (found,) = findings(services, model_id)
    assert found is not None
    assert "EXPORT_DISK" in found["issues"][0]
