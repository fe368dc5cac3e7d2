"""The platform-hosted use case of the design documents: from a model to its predictions over HTTP."""

import base64
import io
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from model_service.client import ModelServiceClient
from tests.e2e.conftest import Stack, wait_for

PREPROCESSING = {
    "resize": {"method": "resize", "size": [8, 8]},
    "format": {"output_layout": "NCHW", "color_space": "RGB", "dtype": "float32"},
    "normalize": {"method": "standard", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def send(url: str, body: Any, **headers: str) -> Any:
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32[batch, 3, 8, 8] → scores of two classes."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8), torch.nn.Flatten()).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(model, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt2"
    torch.export.save(program, path)
    return path


def test_instant_deployment_without_infrastructure(stack: Stack, checkpoint: Path) -> None:
    from PIL import Image

    api = stack.report["api"]
    with ModelServiceClient(api) as client:
        run = send(f"{api}/api/v1/training", {"name": "run"})["id"]
        model_id = client.register_model({"name": "pets", "algorithm": "cnn", "training_job_id": run})
        client.upload_model(model_id, checkpoint)
        job = send(
            f"{api}/api/v1/export/jobs",
            {
                "training_job_id": run,
                "export_format": "onnx",
                "export_config": {
                    "opset_version": 17,
                    "dynamic_axes": {"input": [0]},
                    "embed_preprocessing": True,
                    "classes": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
                    "preprocessing": PREPROCESSING,
                    "postprocessing": {"softmax": True, "top_k": 1},
                },
            },
        )
        client.wait_for_export(job["id"])
        made = send(
            f"{api}/api/v1/deployments",
            {
                "export_job_id": job["id"],
                "deployment_type": "platform_endpoint",
                "name": "Production API",
                "config": {
                    "auto_scaling": {"min_replicas": 1, "max_replicas": 2, "target_cpu_utilization": 70}
                },
            },
        )
        wait_for(lambda: client.get_deployment(made["id"]).status == "active", "the deployment to be active")
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    answer = send(made["endpoint_url"], {"image": image}, Authorization=f"Bearer {made['api_key']}")
    assert answer.keys() >= {"predictions", "latency_ms", "model_version"}
    ((prediction,),) = answer["predictions"]  # a list for each image
    assert prediction["class"] in ("cat", "dog")
    assert prediction.keys() >= {"class", "class_id", "confidence"}
    # By its derived name, as a client of the Open Inference Protocol asks.
    inference = made["endpoint_url"].partition("/v1/infer")[0]
    asked = urllib.request.Request(
        f"{inference}/v2/models/production-api", headers={"Authorization": f"Bearer {made['api_key']}"}
    )
    with urllib.request.urlopen(asked, timeout=60) as known:
        assert json.load(known)["name"] == "production-api"
