"""Serve a verified export, and send it scans that the network has not seen in training.

    python examples/export_and_verify.py      # exports the model
    python examples/deploy_and_predict.py

Needs numpy and scikit-learn, for the scans. MODEL_SERVICE_URL and MODEL_SERVICE_API_KEY name another service.
"""

import os

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from model_service.client import ModelServiceClient

digits = load_digits()
scans = (digits.images / 16).astype("float32")[:, None]
_, x_test, _, y_test = train_test_split(scans, digits.target, random_state=0)

url = os.environ.get("MODEL_SERVICE_URL", "http://127.0.0.1:8084")
with ModelServiceClient(url, os.environ.get("MODEL_SERVICE_API_KEY")) as client:
    jobs = client.list_exports(
        model_id="examples/digits@candidate", status="completed", export_format="onnx"
    ).items
    if not jobs:
        raise SystemExit("No export yet: run examples/export_and_verify.py first.")
    deployment = client.wait_for_deployment(client.create_deployment(jobs[0].id, "examples-digits"))
    try:
        print("endpoint:", deployment.endpoint_url)

        # Arrays are sent and returned in binary.
        scores = client.predict(deployment, x_test).outputs["output"]
        print(f"accuracy over HTTP: {(scores.argmax(1) == y_test).mean():.1%}")

        # With predictions=True the service applies the declared postprocessing: classes, best first.
        best = client.predict(deployment, x_test[:1], predictions=True).predictions
        print(f"a scan of a {y_test[0]}:", best)
    finally:
        client.delete_deployment(deployment.id)
