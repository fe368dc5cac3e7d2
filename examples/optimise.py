"""Export a model with smaller weights, and compare size and fidelity with the full precision.

    python examples/train_and_register.py     # registers the model
    python examples/optimise.py

FP16 halves the weights of an OpenVINO model, INT8 quarters them. An export whose results differ from the
source by more than the tolerance of its precision fails, so it can never be deployed by mistake.
"""

import os

from model_service.client import ExportFailed, ModelServiceClient

url = os.environ.get("MODEL_SERVICE_URL", "http://127.0.0.1:8084")
with ModelServiceClient(url, os.environ.get("MODEL_SERVICE_API_KEY")) as client:
    jobs = {
        precision: client.create_export(
            "examples/digits@candidate", "openvino", export_config={"precision": precision}
        )
        for precision in ("FP32", "FP16", "INT8")
    }
    full_size = None
    for precision, job in jobs.items():
        try:
            done = client.wait_for_export(job)
        except ExportFailed as exc:
            print(f"{precision}: {exc.code}: {exc}")
            continue
        assert done.fidelity is not None
        assert done.model_size_bytes is not None
        full_size = full_size or done.model_size_bytes
        (output,) = done.fidelity["outputs"].values()
        print(
            f"{precision}: {done.model_size_bytes:,} bytes ({done.model_size_bytes / full_size:.0%}), "
            f"{done.fidelity['verdict']}, largest difference {output['max_abs']:.1e}"
        )
