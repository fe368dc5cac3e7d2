"""The commands of promotion gates against a real service without authentication."""

from tests.client.cli.test_cli import result, run


def test_the_gate_of_an_alias_stops_a_pipeline(service_url: str) -> None:
    model = result("models", "register", "digits", "cnn", url=service_url)
    passes = run("gate", model["id"], "production", url=service_url)
    assert passes.returncode == 0, "an alias without a gate takes every version"

    dataset = result("datasets", "register", "test-set", url=service_url)
    rules = ("--verified-export", "onnx", "--validated", "--max-p99-ms", "20")
    metric = f"accuracy>=0.95@{dataset['id']}@export"
    told = run("models", "gates", "set", "digits", "production", *rules, "--metric", metric, url=service_url)
    assert told.returncode == 0, told.stderr
    assert told.stdout == (
        "digits@production needs a verified export to onnx that passed its validation; "
        "accuracy ≥ 0.95 on test-set/v1.0 (export); p99 ≤ 20 ms.\n"
    )
    listed = result("models", "gates", "list", "digits", url=service_url)
    assert [gate["alias"] for gate in listed["gates"]] == ["production"]

    missing = run("gate", model["id"], "production", url=service_url)
    assert missing.returncode == 1
    for word in ("verified_export", "validated_export", "metric", "p99", "export it to onnx"):
        assert word in missing.stdout
    assert missing.stdout.endswith("digits v1.0 does not pass the gate of production: 4 missing.\n")
    refused = run("models", "alias", "set", model["id"], "production", url=service_url)
    assert refused.returncode == 1
    assert "does not pass the gate" in refused.stderr

    assert run("models", "gates", "remove", "digits", "production", url=service_url).returncode == 0
    moved = result("models", "alias", "set", model["id"], "production", "--comment", "now", url=service_url)
    assert moved["version"] == "v1.0"
    history = result("models", "alias", "history", "digits", "production", url=service_url)
    assert [event["action"] for event in history["events"]] == ["alias_set", "gate_removed", "gate_set"]
    assert history["events"][0]["comment"] == "now"


def test_a_wrong_metric_rule_is_explained(service_url: str) -> None:
    wrong = run("models", "gates", "set", "digits", "production", "--metric", "accuracy=0.9", url=service_url)
    assert wrong.returncode == 2
    assert "accuracy>=0.95@digits-test/v1.0" in " ".join(wrong.stderr.split())


def test_nobody_approves_without_authentication(service_url: str) -> None:
    model = result("models", "register", "digits", "cnn", url=service_url)
    refused = run("models", "approve", model["id"], "production", url=service_url)
    assert refused.returncode == 1
    assert "ENABLE_AUTH" in refused.stderr
    assert result("models", "approvals", model["id"], url=service_url) == {"approvals": []}
