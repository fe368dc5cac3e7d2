"""The example of docs/python-classes.md runs as it stands, in a process and a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

from model_service.config import Settings
from model_service.embedded import Addresses
from model_service.model_deployment_service import ModelExporter, ModelInfo
from model_service.storage.common.db import Database

PAGE = (Path(__file__).parents[2] / "docs" / "python-classes.md").read_text()


def test_the_example_runs(
    servers: Addresses, settings: Settings, database: Database, tmp_path: Path, home: Path
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = code.replace('"tensorfleet"', repr(settings.mongodb_db))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"MONGODB_URL": servers.mongodb_url, "MODEL_SERVICE_HOME": str(home), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sizes, validation, deployed, listed, undeployed = done.stdout.splitlines()
    assert sizes == f"{64 * 16 + 16 + 16 * 64 + 64} 64 64"
    assert "max_abs" in validation
    assert deployed == "drawings v1.0 production"
    assert listed == "[1]"
    assert undeployed == "True"
    (entry,) = ModelExporter(tmp_path / "exports").list_exported_models()
    assert entry["model_type"] == "autoencoder"


def test_every_key_and_every_field_is_documented() -> None:
    from model_service.model_deployment_service import (
        DeploymentResult,
        ModelDeploymentConfig,
        ValidationResult,
    )

    names = {*ModelInfo.__annotations__, *DeploymentResult.__annotations__, *ValidationResult.__annotations__}
    names |= set(ModelDeploymentConfig.__dataclass_fields__)
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []
