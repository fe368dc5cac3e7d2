"""No artefact of torch.export's own examples is called verified and answers differently."""

from collections import Counter
from pathlib import Path

import pytest

from .export_db import measure


@pytest.mark.large
def test_no_example_of_torch_export_is_verified_and_wrong(tmp_path: Path) -> None:
    found = list(measure(tmp_path))

    wrong = [one for one in found if one["verdict"] == "verified" and not one["artefact"].startswith("right")]
    assert not wrong
    verdicts = Counter(one["verdict"] for one in found)
    assert verdicts["traceback"] == 0
    assert verdicts["verified"] >= len(found) / 2
