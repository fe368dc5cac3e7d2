"""The load of the registry's readers, for Locust: three reads of a model for each list of models.

Against a running service with at least one model; MODEL_SERVICE_API_KEY is the key, if it requires one:

    pip install locust
    locust --locustfile benchmarks/locustfile.py --headless --users 100 --spawn-rate 20 --run-time 30s \\
        --host http://127.0.0.1:8084

``load.py`` runs this file with a service of its own.
"""

import os
import random

from locust import HttpUser, between, task
from locust.exception import StopUser

MODELS = "/api/v1/models"


class ModelServiceUser(HttpUser):
    wait_time = between(1, 3)

    def on_start(self) -> None:
        """Read the ids of the newest models, which the tasks ask for."""
        if key := os.environ.get("MODEL_SERVICE_API_KEY"):
            self.client.headers["X-API-Key"] = key
        response = self.client.get(MODELS)
        self.ids = [model["id"] for model in response.json()["models"]] if response.ok else []
        if not self.ids:
            raise StopUser

    @task
    def list_models(self) -> None:
        self.client.get(MODELS)

    @task(3)
    def get_model_metadata(self) -> None:
        self.client.get(f"{MODELS}/{random.choice(self.ids)}", name=f"{MODELS}/[id]")  # noqa: S311 - no secret
