"""Export a model to ONNX, show how close the result is to its source, and check the downloaded package.

    python examples/train_and_register.py     # registers the model
    python examples/export_and_verify.py

Needs onnxruntime, to repeat the comparison here. MODEL_SERVICE_URL and MODEL_SERVICE_API_KEY name another
service.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from model_service.client import ModelServiceClient

url = os.environ.get("MODEL_SERVICE_URL", "http://127.0.0.1:8084")
with (
    TemporaryDirectory() as folder,
    ModelServiceClient(url, os.environ.get("MODEL_SERVICE_API_KEY")) as client,
):
    job = client.create_export(
        "examples/digits@candidate",
        "onnx",
        export_config={
            "classes": [str(digit) for digit in range(10)],
            "postprocessing": {"softmax": True, "top_k": 1},
        },
    )
    job = client.wait_for_export(job)  # raises ExportFailed if the result differs from the source
    assert job.fidelity is not None
    print("verdict:", job.fidelity["verdict"])
    for name, found in job.fidelity["outputs"].items():
        print(f"{name}: largest difference {found['max_abs']:.1e}")

    package = client.download_export(job.id, Path(folder) / "digits.zip")
    # Checks every file's checksum, and compares the golden outputs with those of this machine.
    subprocess.run([sys.executable, "-m", "exporters", "verify", str(package)], check=True)
