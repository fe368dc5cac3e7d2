"""Every route declares its policy: an application with one that does not is not made."""

from collections import defaultdict

import pytest
from flask import Flask

from model_service.actor import Permission
from model_service.api.http.policy import Policy, check_policies, policy, policy_of

# Class → the routes that are counted in it.
CLASSES = {
    "download": {
        "GET /api/v1/datasets/<dataset_ref:dataset_id>/download",
        "GET /api/v1/datasets/<dataset_ref:dataset_id>/files.zip",
        "GET /api/v1/datasets/<dataset_ref:dataset_id>/files/<path:path>",
        "GET /api/v1/deployments/<deployment_ref:deployment_id>/download",
        "GET /api/v1/export/jobs/<job_id>/download",
        "GET /api/v1/models/<model_ref:model_id>/download",
        "GET /api/v1/models/<model_ref:model_id>/files.zip",
        "GET /api/v1/models/<model_ref:model_id>/files/<path:path>",
        "GET /api/v1/registry/export",
    },
    "login": {
        "POST /api/v1/sessions",
        "POST /api/v1/users/me/password",
    },
    "parts": {
        "GET /api/v1/uploads/<upload_id>",
        "POST /api/v1/uploads/<upload_id>/complete",
        "PUT /api/v1/uploads/<upload_id>/parts/<n>",
    },
    "poll": {
        "GET /api/v1/deployments",
        "GET /api/v1/deployments/<deployment_ref:deployment_id>",
        "GET /api/v1/deployments/<deployment_ref:deployment_id>/history",
        "GET /api/v1/deployments/<deployment_ref:deployment_id>/logs",
        "GET /api/v1/deployments/<deployment_ref:deployment_id>/usage",
        "GET /api/v1/evaluations/<evaluation_id>",
        "GET /api/v1/export/jobs/<job_id>",
        "GET /api/v1/export/jobs/<job_id>/events",
        "GET /api/v1/training/<job_id>",
        "GET /api/v1/webhooks/<webhook_id>/deliveries",
        "GET /api/v1/webhooks/<webhook_id>/deliveries/<delivery_id>",
    },
    "uncounted": {
        "GET /health/detailed",
    },
    "upload": {
        "POST /api/v1/datasets/<dataset_ref:dataset_id>/upload",
        "POST /api/v1/models/<model_ref:model_id>/upload",
        "POST /api/v1/registry/import",
        "PUT /api/v1/datasets/<dataset_ref:dataset_id>/files/<path:path>",
        "PUT /api/v1/models/<model_ref:model_id>/files/<path:path>",
    },
}


def test_a_view_without_a_policy_is_named() -> None:
    app = Flask(__name__, static_folder=None)

    @app.get("/declared")
    @policy(Permission.DEPLOY, rate="poll")
    def declared() -> str:
        return ""

    check_policies(app)
    assert policy_of(app, "declared") == Policy(Permission.DEPLOY, rate="poll")

    @app.get("/forgotten")
    def forgotten() -> str:
        return ""

    with pytest.raises(TypeError, match="forgotten"):
        check_policies(app)


def test_the_classes_of_the_routes(app: Flask) -> None:
    """A route without a class of its own is counted as "read" or "default"."""
    found = defaultdict(set)
    for rule in app.url_map.iter_rules():
        declared = policy_of(app, rule.endpoint)
        if declared is not None and declared.rate is not None:
            methods = ",".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))
            found[declared.rate].add(f"{methods} {rule.rule}")
    assert found == CLASSES
