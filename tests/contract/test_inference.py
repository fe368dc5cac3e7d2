"""The inference server does what its OpenAPI document says: all checks, with a key and without."""

from collections.abc import Callable

import pytest

from tests.serving.conftest import KEY, Endpoint, listen, package_zip, served, world

__all__ = ["listen", "package_zip", "served", "world"]  # fixtures


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-H", f"Authorization: Bearer {KEY}"), id="key"),
        pytest.param((), id="no key", marks=pytest.mark.large),
    ],
)
def test_the_inference_server_keeps_its_contract(
    served: Endpoint, conforms: Callable[..., None], options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_service.serving.http.app._PATIENCE_S", 0.0)
    conforms(served.url, *options, examples=20)
