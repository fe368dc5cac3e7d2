"""All estimators, pipelines and boosters of the suite: none is verified and wrong. Figures: suites.md."""

from pathlib import Path

import pytest

from . import estimators

_LEAST_SHARE = 0.75  # of the cases for whose estimators there is a converter


@pytest.mark.large
def test_no_estimator_is_verified_and_wrong(tmp_path: Path) -> None:
    found = estimators.run_all(tmp_path / "results.jsonl")
    print(estimators.summary(found))

    assert [
        one for one in found if one["result"] in ("wrong", "no case") or one["cause"] == "traceback"
    ] == []
    assert [one for one in found if one.get("pickle", {}).get("result") == "wrong"] == []
    able = [one for one in found if one["has_converter"]]
    assert len(found) > 400
    assert len(able) > 300
    assert sum(one["result"] == "right" for one in able) >= _LEAST_SHARE * len(able)
