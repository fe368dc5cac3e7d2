"""The chart's value sets, rendered once."""

import platform
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux" or platform.machine() != "x86_64":
    collect_ignore = ["test_chart.py", "test_pods.py"]  # Helm's library has no release for other platforms
else:
    from tests.deploy.rendering import CHART, VALUES, objects, values_of

    SETS = {path.name.removesuffix("-values.yaml"): path for path in (*(CHART / "ci").iterdir(), VALUES)}

    @pytest.fixture(scope="session", params=sorted(SETS), name="rendered")
    def _rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
        """The objects of one value set."""
        path: Path = SETS[request.param]
        return objects(values_of(path))
