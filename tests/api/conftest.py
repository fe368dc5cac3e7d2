"""The application in this process, over the test's own database."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.app import create_app
from model_service.config import Settings
from tests.factories import new_model


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(settings)


@pytest.fixture
def http(app: Flask) -> Iterator[FlaskClient]:
    with app.test_client() as client:
        yield client


@pytest.fixture
def model_id(http: FlaskClient) -> str:
    """A registered model without a file."""
    answer = http.post("/api/v1/models", json=new_model())
    return str(answer.json["model_id"])  # type: ignore[index]
