"""Every route declares its policy: an application with one that does not is not made."""

import pytest
from flask import Flask

from model_service.actor import Permission
from model_service.api.http.policy import Policy, check_policies, policy, policy_of


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
