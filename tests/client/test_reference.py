"""docs/client.md names every method of the client, with its signature, every error and every record."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from model_service import client
from model_service.client import AsyncInferenceClient, ClientError, ModelServiceClient
from model_service.client.inference.sync_inference import Options

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
SHORT = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])")  # module names before a type's own


def signature(method: Callable[..., Any]) -> str:
    """``name(parameters) → type``, as the page writes it."""
    found = inspect.signature(method)
    shown = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in found.parameters.items()
        if name != "self"
    ]
    parameters = found.replace(parameters=shown, return_annotation=inspect.Signature.empty)
    result = found.return_annotation
    named = result.__name__ if isinstance(result, type) and not hasattr(result, "__args__") else str(result)
    return f"{method.__name__}{parameters} → {SHORT.sub('', named)}"


def methods() -> set[str]:
    return {
        signature(method)
        for name, method in inspect.getmembers(ModelServiceClient, inspect.isfunction)
        if not name.startswith("_")
    }


def test_every_method_is_on_the_page_with_its_signature() -> None:
    listed = re.findall(r"^\| `(\w+\(.*?)` \| \S", PAGE, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == methods()


def test_every_option_of_predict_is_on_the_page() -> None:
    missing = [name for name in get_type_hints(Options) if f"`{name}`" not in PAGE]
    assert missing == []


def test_every_error_and_every_record_is_on_the_page() -> None:
    assert [name for name in client.__all__ if not re.search(rf"`{name}[`(]", PAGE)] == []


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \| \w", PAGE, re.MULTILINE))
    errors = [getattr(client, name) for name in client.__all__]
    parents = {
        error.__name__: error.__base__.__name__
        for error in errors
        if isinstance(error, type) and issubclass(error, ClientError) and error is not ClientError
    }
    assert rows == parents


def test_the_constructors_are_as_on_the_page() -> None:
    for made in (ModelServiceClient, AsyncInferenceClient):
        parameters = [name for name in inspect.signature(made).parameters if name != "self"]
        assert parameters
        assert [name for name in parameters if f"`{name}`" not in PAGE] == []
