"""The application over the test's own MongoDB and Redis, and a running service for whole use cases."""

from tests.api.conftest import app, http, model_id
from tests.e2e.conftest import stack

__all__ = ["app", "http", "model_id", "stack"]
