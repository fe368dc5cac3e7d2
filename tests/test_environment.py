"""The tests run in the environment of ``scripts/install``, plus test tools that the product never needs."""

import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from exporters import registry
from tests.test_architecture import ROOT, imports

PRODUCT = ("requirements.txt", "requirements-formats.txt")
TOOLS = ("tests/toolchains/requirements.txt",)
OURS = "model-service"
# A virtual environment comes with these; torch requires setuptools of any version.
OF_THE_ENVIRONMENT = {"pip", "setuptools", "wheel"}
# What the product imports where a machine has it; no release for every platform, so nothing installs it.
OPTIONAL = {"tensorrt", "cuda", "fiftyone"}
# The Python wrapper of a package, beside which the server of a container package is.
OF_A_PACKAGE = {"model_wrapper"}
# Requirements of the product's packages that it does without, and why.
LEFT_OUT = {
    "opencv-python": "opencv-python-headless has the same module",
    "ultralytics-platform": "Ultralytics imports it only for its own web service",
    "tomli": "of Python before 3.11",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> Iterator[metadata.Distribution]:
    """What the environment holds: setuptools, once imported, adds a folder of copies to ``sys.path``."""
    yield from metadata.distributions(path=[sysconfig.get_path("purelib")])


def pins(*files: str) -> dict[str, str]:
    """Package → version, as the files pin them for this platform."""
    found = {}
    for file in files:
        for line in (ROOT / file).read_text().splitlines():
            if text := line.partition("#")[0].strip():
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate():
                    (version,) = requirement.specifier
                    found[normal(requirement.name)] = version.version
    return found


def imported() -> Iterator[tuple[str, str]]:
    """Every third-party module that the product imports, at its top or in a function, with the file."""
    for package in ("model_service", "exporters"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in imports(path):
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in ("model_service", "exporters", ""):
                    yield top, str(path.relative_to(ROOT))
    for spec in registry.specifications():
        for name in registry.requirements(spec.name):
            yield name.partition(".")[0], f"modules of {spec.name}"


def test_all_that_the_product_imports_is_installed_by_its_own_requirements() -> None:
    from_elsewhere = OPTIONAL | OF_A_PACKAGE
    owners, product = metadata.packages_distributions(), pins(*PRODUCT)
    wrong = {
        f"{file} imports {module}"
        for module, file in imported()
        if module not in from_elsewhere
        and not {normal(name) for name in owners.get(module, ())} & set(product)
    }
    assert wrong == set()


def test_what_the_products_packages_require_is_installed_with_them() -> None:
    product = pins(*PRODUCT)
    wrong = []
    for name in product:
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if normal(requirement.name) not in {*product, *LEFT_OUT, *OF_THE_ENVIRONMENT}:
                wrong.append(f"{name} requires {requirement.name}")
    assert wrong == []


def test_the_tests_add_their_tools_to_the_environment_and_nothing_else() -> None:
    product, tools = pins(*PRODUCT), pins(*TOOLS)
    assert set(product) & set(tools) == set()
    here = {normal(found.name): found.version.partition("+")[0] for found in installed()}
    for name in (OURS, *OF_THE_ENVIRONMENT):
        here.pop(name, None)
    assert here == product | tools


def test_nothing_but_an_installed_package_acts_when_python_starts() -> None:
    """A ``.pth`` file of the tests would make work here what does not work for a user."""
    owned = {path.name for found in installed() for path in found.files or () if path.suffix == ".pth"}
    present = {path.name for folder in sys.path for path in Path(folder).glob("*.pth")}
    assert present - owned == set()


def test_a_process_of_the_exporters_imports_what_needs_torchvision() -> None:
    run(
        "import exporters, timm, ultralytics, transformers.models.detr.modeling_detr\n"
        "import torchvision; torchvision.ops.nms"
    )


def test_the_operators_are_left_alone_where_something_declares_them() -> None:
    """As torchvision's native part does, where it loads."""
    run(
        "import torch; native = torch.library.Library('torchvision', 'DEF')\n"
        "for name in ('nms', 'qnms'):\n"
        "    native.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "import exporters, sys, torchvision\n"
        "assert all(getattr(finder, 'library', None) is None for finder in sys.meta_path)"
    )


def test_the_benchmark_of_serving_imports_what_it_needs() -> None:
    run(
        f"import sys; sys.path[:0] = [{str(ROOT / 'benchmarks')!r}]\n"
        "import serving\nfrom timm.models.resnet import ResNet"
    )


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
