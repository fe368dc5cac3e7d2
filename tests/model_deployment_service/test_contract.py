"""The names, fields, signatures, errors and interfaces of the contract, whose text stands here.

``SIGNATURES`` and ``FIELDS`` are copied from the contract; its return types that are no types
(``<ast.Subscript object>``) are lists of dictionaries. The test reads the classes, never the other way round.
"""

import dataclasses
import inspect
import re
import subprocess
import sys
import typing
from datetime import datetime
from typing import Any, Protocol

import pytest
import torch
from pymongo.database import Database

import model_service.model_deployment_service as module

ERRORS = """
ModelDeploymentError: Exception
ModelExportError: ModelDeploymentError
ModelValidationError: ModelDeploymentError
ModelCompatibilityError: ModelDeploymentError
"""
FIELDS = """
ModelExportMetadata.model_id: str
ModelExportMetadata.export_timestamp: datetime
ModelExportMetadata.training_job_id: int
ModelExportMetadata.model_type: str
ModelExportMetadata.model_version: str
ModelExportMetadata.architecture_hash: str
ModelExportMetadata.parameter_count: int
ModelExportMetadata.input_dimension: int
ModelExportMetadata.output_dimension: int
ModelExportMetadata.age_group_min: float
ModelExportMetadata.age_group_max: float
ModelExportMetadata.training_metrics: Dict[str, Any]
ModelExportMetadata.compatibility_version: str
ModelExportMetadata.export_format: str
ModelExportMetadata.file_size_bytes: int
ModelExportMetadata.checksum: str
ModelDeploymentConfig.model_export_path: str
ModelDeploymentConfig.age_group_min: float
ModelDeploymentConfig.age_group_max: float
ModelDeploymentConfig.replace_existing: bool
ModelDeploymentConfig.validate_before_deployment: bool
ModelDeploymentConfig.backup_existing: bool
ModelDeploymentConfig.deployment_environment: str
"""
LIST = "List[Dict[str, Any]]"  # the contract's "<ast.Subscript object at 0x…>"
SIGNATURES = f"""
ModelExportMetadata.to_dict() -> Dict[str, Any]
ModelDeploymentConfig.to_dict() -> Dict[str, Any]
ModelExporter.export_model_from_training_job(training_job_id: int, age_group_min: float, age_group_max: float, export_format: str, db: Session) -> ModelExportMetadata
ModelExporter.export_model_direct(model: nn.Module, model_info: Dict[str, Any], age_group_min: float, age_group_max: float, export_format: str) -> ModelExportMetadata
ModelExporter.list_exported_models() -> {LIST}
ModelValidator.validate_exported_model(export_metadata: ModelExportMetadata) -> Dict[str, Any]
ModelDeploymentService.deploy_model(deployment_config: ModelDeploymentConfig, db: Session) -> Dict[str, Any]
ModelDeploymentService.list_deployed_models(db: Session) -> {LIST}
ModelDeploymentService.undeploy_model(model_id: int, db: Session) -> bool
"""  # noqa: E501
PROTOCOLS = """
ModelExportMetadataInterface: ModelExportMetadata
ModelDeploymentConfigInterface: ModelDeploymentConfig
ModelExporterInterface: ModelExporter
ModelValidatorInterface: ModelValidator
ModelDeploymentServiceInterface: ModelDeploymentService
"""
# The contract's names of types. Its session of a database is MongoDB's database.
TYPES = {
    **{name: vars(typing)[name] for name in ("Any", "Dict", "List")},
    **{"str": str, "int": int, "float": float, "bool": bool, "datetime": datetime},
    **{"nn": torch.nn, "Session": module.Session},
    "ModelExportMetadata": module.ModelExportMetadata,
    "ModelDeploymentConfig": module.ModelDeploymentConfig,
}
SIGNATURE = re.compile(r"(\w+)\.(\w+)\((.*)\) -> (.+)")


def pairs(text: str) -> list[tuple[str, str]]:
    return [tuple(line.split(": ", 1)) for line in text.split("\n") if line]  # type: ignore[misc]


def signatures() -> list[tuple[str, str, list[tuple[str, str]], str]]:
    found = []
    for line in SIGNATURES.strip().splitlines():
        match = SIGNATURE.fullmatch(line)
        assert match is not None, line
        owner, method, parameters, returned = match.groups()
        listed = [tuple(each.split(": ")) for each in re.split(r", (?=\w+: )", parameters) if each]
        found.append((owner, method, listed, returned))
    return found  # type: ignore[return-value]


def plain(annotation: Any) -> Any:
    """A type with ``dict`` for ``Dict`` and for a typed dictionary, whose values may be anything."""
    if typing.is_typeddict(annotation):
        return dict[str, Any]
    arguments = tuple(map(plain, typing.get_args(annotation)))
    origin = typing.get_origin(annotation)
    return origin[arguments] if origin is not None else annotation


def type_of(text: str) -> Any:
    return plain(eval(text, TYPES))  # the contract's own text, above


def hints(function: Any) -> dict[str, Any]:
    found = typing.get_type_hints(function, vars(module) | TYPES)
    return {name: plain(annotation) for name, annotation in found.items()}


@pytest.mark.parametrize(("name", "base"), pairs(ERRORS))
def test_the_errors_are_a_tree(name: str, base: str) -> None:
    expected = Exception if base == "Exception" else getattr(module, base)
    assert getattr(module, name).__bases__ == (expected,)
    assert str(getattr(module, name)("why")) == "why"


@pytest.mark.parametrize("owner", ["ModelExportMetadata", "ModelDeploymentConfig"])
def test_the_data_classes_have_exactly_these_fields_in_this_order(owner: str) -> None:
    described = [(path.partition(".")[2], kind) for path, kind in pairs(FIELDS) if path.startswith(owner)]
    cls = getattr(module, owner)
    assert [field.name for field in dataclasses.fields(cls)] == [name for name, _ in described]
    assert hints(cls) == {name: type_of(kind) for name, kind in described}


@pytest.mark.parametrize(
    ("owner", "method", "parameters", "returned"), signatures(), ids=lambda value: str(value)[:30]
)
@pytest.mark.parametrize("suffix", ["", "Interface"])
def test_the_methods_have_exactly_these_signatures(
    owner: str, method: str, parameters: list[tuple[str, str]], returned: str, suffix: str
) -> None:
    function = getattr(getattr(module, owner + suffix), method)
    given = list(inspect.signature(function).parameters.values())[1:]
    assert [one.name for one in given] == [name for name, _ in parameters]
    assert all(one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty for one in given)
    assert hints(function) == {name: type_of(kind) for name, kind in (*parameters, ("return", returned))}


@pytest.mark.parametrize(("interface", "implementation"), pairs(PROTOCOLS))
def test_the_interfaces_are_protocols_that_the_classes_implement(interface: str, implementation: str) -> None:
    protocol, cls = getattr(module, interface), getattr(module, implementation)
    assert Protocol in protocol.__mro__
    assert getattr(protocol, "_is_protocol", False)
    methods = {method for owner, method, _, _ in signatures() if owner == implementation}
    assert {name for name in vars(protocol) if not name.startswith("_")} == methods
    assert issubclass(cls, protocol)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ModelExporter", ["export_dir", "db"]),
        ("ModelValidator", ["export_dir"]),
        ("ModelDeploymentService", ["export_dir", "db"]),
    ],
)
def test_every_argument_of_a_constructor_is_optional(name: str, arguments: list[str]) -> None:
    getattr(module, name)()
    parameters = inspect.signature(getattr(module, name)).parameters
    assert list(parameters) == arguments
    assert all(one.default is None for one in parameters.values())


def test_a_session_is_a_database_of_pymongo() -> None:
    assert typing.get_origin(module.Session) is Database


def test_everything_of_the_contract_is_public() -> None:
    names = {path.partition(".")[0] for text in (ERRORS, FIELDS, PROTOCOLS) for path, _ in pairs(text)}
    names |= {owner for owner, *_ in signatures()}
    assert names <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_import_needs_no_framework() -> None:
    code = "import sys, model_service.model_deployment_service; print({'torch', 'flask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
