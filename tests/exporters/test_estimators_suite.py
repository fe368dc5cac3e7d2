"""All estimators, pipelines and boosters of the suite: none is verified and wrong."""

from collections import Counter
from pathlib import Path

import pytest

from .suites import estimators

# The cause of a refusal that says that there is nothing to convert with, or nothing to convert.
_NO_CONVERTER = {
    "no converter",
    "not on the list of what is loaded",
    "answers no single row",
    "no input of columns",
    "several labels for a row",
}


@pytest.mark.large
def test_no_estimator_is_verified_and_wrong(tmp_path: Path) -> None:
    found = []
    for number, (name, make) in enumerate(estimators.cases()):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append({"case": name, **estimators.measure(make, folder)})

    assert [one for one in found if one["result"] == "wrong" or one["cause"] == "traceback"] == []
    of_converters = [one for one in found if one["result"] != "no case" and one["cause"] not in _NO_CONVERTER]
    right = sum(one["result"] == "right" for one in of_converters)
    causes = Counter(one["cause"] for one in found if one["result"] == "refused")
    assert right >= 0.75 * len(of_converters), causes
