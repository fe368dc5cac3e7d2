"""What the tiers allow, from the packaged file or the operator's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_service.actor import ADMINISTRATOR, ANONYMOUS
from model_service.config import SettingsError, read_settings
from model_service.embedded import Addresses
from model_service.states import Tier
from model_service.tiers import PACKAGED, Tiers


def read(**settings: object) -> Tiers:
    return Tiers.read(read_settings(**settings))


def test_the_packaged_tiers() -> None:
    tiers = read()
    free, pro, enterprise = (tiers.of(tier) for tier in (Tier.FREE, Tier.PRO, Tier.ENTERPRISE))
    assert (free.requests_per_month, free.rate_limit_per_minute, free.gpu_access) == (1000, 10, False)
    assert (pro.requests_per_month, pro.rate_limit_per_minute, pro.gpu_access) == (100_000, 100, True)
    assert pro.price_per_1000_requests == 0.5
    assert (enterprise.requests_per_month, enterprise.rate_limit_per_minute) == (None, 1000)
    assert (enterprise.gpu_access, enterprise.dedicated_instance, enterprise.price_per_month) == (
        True,
        True,
        500,
    )
    assert not free.dedicated_instance
    assert not pro.dedicated_instance
    assert (free.deployments, pro.deployments, enterprise.deployments) == (3, 30, None)
    assert (free.exports_at_a_time, pro.exports_per_day, enterprise.exports_per_day) == (2, 200, None)


def test_no_tier_is_no_limit() -> None:
    limits = read().of(None)
    assert (limits.requests_per_month, limits.rate_limit_per_minute, limits.exports_per_day) == (None,) * 3
    assert limits.gpu_access


def test_whose_tier_it_is() -> None:
    tiers = read(default_tier="free")
    assert tiers.tier_of("anna", Tier.PRO) == Tier.PRO
    assert tiers.tier_of("anna", None) == Tier.FREE
    assert tiers.tier_of(ANONYMOUS.name, None) == Tier.FREE
    assert tiers.tier_of(ADMINISTRATOR.name, None) is None
    assert read().tier_of(ANONYMOUS.name, None) is None
    assert tiers.of_user("anna", {"tier": "enterprise"}) == Tier.ENTERPRISE
    assert tiers.of_user("anna", None) == Tier.FREE


def test_an_operator_edits_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tiers.toml"
    file.write_text(
        "[free]\nrequests_per_month = 5\n[pro]\nrate_limit_per_minute = 'unlimited'\n[enterprise]\n"
    )
    tiers = read(tiers_file=file)
    assert tiers.of(Tier.FREE).requests_per_month == 5
    assert tiers.of(Tier.FREE).rate_limit_per_minute is None
    assert tiers.of(Tier.PRO).rate_limit_per_minute is None
    assert not tiers.of(Tier.ENTERPRISE).gpu_access


def test_export_limits_stand_above_the_file() -> None:
    tiers = read(export_limits="free=1/3")
    assert (tiers.of(Tier.FREE).exports_at_a_time, tiers.of(Tier.FREE).exports_per_day) == (1, 3)
    assert (tiers.of(Tier.PRO).exports_at_a_time, tiers.of(Tier.PRO).exports_per_day) == (None, None)
    assert tiers.of(Tier.PRO).requests_per_month == 100_000


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (("requests_per_month = 1_000", "requests_per_month = 0"), "free.requests_per_month=0"),
        (("requests_per_month = 1_000", "requests_per_month = true"), '"unlimited"'),
        (("requests_per_month = 1_000", "requests_per_month = 'many'"), '"unlimited"'),
        (("requests_per_month = 1_000", "requests_per_month = 9007199254740992"), "free.requests_per_month"),
        (
            ("requests_per_month = 1_000", "requests_per_moon = 1"),
            "requests_per_moon: there is no such field",
        ),
        (("gpu_access = true", "gpu_access = 1"), "pro.gpu_access=1"),
        (("price_per_month = 500", "price_per_month = -1"), "enterprise.price_per_month=-1"),
        (("price_per_month = 500", "price_per_month = nan"), "enterprise.price_per_month=nan"),
        (("[pro]", "[gold]"), "there is no such tier; the tiers are free, pro, enterprise"),
        (("[pro]", "[free.more]"), "free.more"),
        (("[pro]", "[pro"), "not TOML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_field(
    tmp_path: Path, change: tuple[str, str], hint: str
) -> None:
    file = tmp_path / "tiers.toml"
    text = PACKAGED.read_text()
    assert change[0] in text
    file.write_text(text.replace(*change, 1))
    with pytest.raises(SettingsError) as error:
        read(tiers_file=file)
    assert str(error.value).startswith("TIERS_FILE=")
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_a_tier_or_without_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tiers.toml"
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read(tiers_file=file)
    file.write_text("[free]\n")
    with pytest.raises(SettingsError, match="no heading for pro, enterprise"):
        read(tiers_file=file)


@pytest.mark.parametrize("program", ["api", "serving"])
def test_a_wrong_file_stops_the_start(servers: Addresses, tmp_path: Path, program: str) -> None:
    file = tmp_path / "tiers.toml"
    file.write_text("[free]\nrequests_per_month = 0\n[pro]\n[enterprise]\n")
    env = {"MONGODB_URL": servers.mongodb_url, "REDIS_URL": servers.redis_url, "TIERS_FILE": str(file)}
    ended = subprocess.run(
        [sys.executable, "-m", f"model_service.{program}"],
        env=os.environ | env | {"MODEL_SERVICE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "TIERS_FILE=" in ended.stderr.splitlines()[-1]
    assert "free.requests_per_month=0" in ended.stderr.splitlines()[-1]
