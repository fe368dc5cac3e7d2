"""The units of deploy/systemd: systemd accepts them, and what they name exists."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model_service.config import Settings, SettingsError, read_settings

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
_PYTHON = "/opt/model-service/.venv/bin/python"
_MOST_EXPOSED = 30  # of 100, by systemd's own judgement


def lines(path: Path) -> dict[str, list[str]]:
    """Directive → its values, in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with the interpreter of the tests; systemd checks that a program exists."""
    for path in UNITS.glob("*.*"):
        name = path.name.replace("@.", "@1.")
        (tmp_path / name).write_text(path.read_text().replace(_PYTHON, sys.executable))
    return tmp_path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(installed: Path) -> None:
    units = [*installed.glob("*.service"), *installed.glob("*.target")]
    assert len(units) == len(SERVICES) + 1
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # It also judges the units of this machine.
    ours = (str(installed), *(unit.name for unit in units))
    assert [line for line in done.stderr.splitlines() if any(name in line for name in ours)] == []
    for unit in installed.glob("*.service"):
        subprocess.run(
            ["systemd-analyze", "security", "--offline=true", f"--threshold={_MOST_EXPOSED}", unit],
            check=True,
            capture_output=True,
            timeout=60,
        )


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_unit_starts_a_part_of_the_service(path: Path) -> None:
    unit = lines(path)
    (command,) = unit["ExecStart"]
    program, option, module = command.split()
    assert (program, option) == (_PYTHON, "-m")
    assert importlib.util.find_spec(f"{module}.__main__") is not None
    # A wrong setting ends the process with 2, and a restart would not help.
    assert unit["RestartPreventExitStatus"] == [str(SettingsError.exit_code)]
    (home,) = unit["Environment"]
    assert home == f"MODEL_SERVICE_HOME=/var/lib/{unit['StateDirectory'][0]}"
    assert unit["EnvironmentFile"] == ["/etc/model-service/model-service.env"]
    assert int(unit["TimeoutStopSec"][0]) >= 10


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemd is not installed")
def test_the_enabled_units_start_after_a_reboot(tmp_path: Path) -> None:
    """The units that docs/hosts.md enables, and no others."""
    folder = tmp_path / "etc" / "systemd" / "system"
    folder.mkdir(parents=True)
    for path in UNITS.glob("*.*"):
        shutil.copy(path, folder)
    (words,) = re.findall(
        r"^systemctl enable --now (model-service\.target .+)$",
        (ROOT / "docs" / "hosts.md").read_text(),
        re.MULTILINE,
    )
    target, *parts = words.split()
    enable = ["systemctl", f"--root={tmp_path}", "enable", target, *parts]
    subprocess.run(enable, check=True, capture_output=True, timeout=60)
    assert [path.name for path in (folder / "multi-user.target.wants").iterdir()] == ["model-service.target"]
    started = {path.name for path in (folder / "model-service.target.wants").iterdir()}
    assert started == {f"{part}.service" for part in parts}
    assert {re.sub("@[0-9]", "@", name) for name in started} == {path.name for path in SERVICES}
    # The target itself requires no part.
    assert not {"Wants", "Requires"} & set(lines(UNITS / "model-service.target"))


def test_the_environment_has_settings_and_no_secret_that_works() -> None:
    variables = {name: value for name, (value,) in lines(UNITS / "model-service.env").items()}
    assert set(variables) <= {name.upper() for name in Settings.model_fields}
    given = {name.lower(): value for name, value in variables.items()}
    with pytest.raises(SettingsError, match=r"API_KEY.*SIGNING_SECRET.*MONGODB_URL.*REDIS_URL"):
        read_settings(**given)
    real = {"api_key": "348a8f4748f44a06", "signing_secret": "348a8f4748f44a06" * 2} | {
        name: value.replace("PASSWORD", "348a8f4748f44a06")
        for name, value in given.items()
        if "PASSWORD" in value
    }
    assert read_settings(**given | real).trusted_proxies == 1
