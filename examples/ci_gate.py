"""A gate for CI: the exit code is 1 unless the model's metric is high enough and its export is verified.

    python examples/train_and_register.py     # registers the model
    python examples/ci_gate.py examples/digits@candidate --metric accuracy --at-least 0.9

A model that passes gets the alias 'production'. MODEL_SERVICE_URL and MODEL_SERVICE_API_KEY name the service.
"""

import argparse
import os
import sys

from model_service.client import ClientError, JobFailed, ModelServiceClient

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
parser.add_argument("model", help="an id, NAME@ALIAS or NAME/v1.2")
parser.add_argument("--metric", default="accuracy")
parser.add_argument("--at-least", type=float, default=0.9)
parser.add_argument("--format", default="onnx")
given = parser.parse_args()

url = os.environ.get("MODEL_SERVICE_URL", "http://127.0.0.1:8084")
try:
    with ModelServiceClient(url, os.environ.get("MODEL_SERVICE_API_KEY")) as client:
        model = client.get_model(given.model)
        value = model.metrics.get(given.metric)
        if value is None or not value >= given.at_least:  # NaN fails too
            sys.exit(f"FAILED: {given.metric} is {value}, at least {given.at_least} is needed.")
        job = client.wait_for_export(client.create_export(model.id, given.format))
        verdict = (job.fidelity or {}).get("verdict")
        if verdict != "verified":
            sys.exit(f"FAILED: the {given.format} export is {verdict}, not verified.")
        client.set_alias(model.id, "production")
        print(f"PASSED: {model.name} {model.version}, {given.metric} {value:.3f}, {given.format} verified.")
except JobFailed as exc:
    sys.exit(f"FAILED: {exc.code}: {exc}")
except ClientError as exc:
    sys.exit(f"FAILED: {exc}")
