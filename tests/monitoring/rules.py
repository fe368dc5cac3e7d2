"""The alert and recording rules, and the same with durations divided by 60, for a test that cannot wait.

``python -m tests.monitoring.rules FOLDER`` writes the shorter rules.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "monitoring" / "prometheus" / "rules"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FACTOR = 60


def rules(folder: Path = RULES) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def alerts() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def shorter(text: str) -> str:
    """PromQL with a sixtieth of each duration: ranges (``[5m]``), and products in seconds (``15 * 60``)."""
    text = re.sub(r"\[(\d+)([smhd])\]", lambda found: f"[{_ms(int(found[1]) * _UNITS_S[found[2]])}ms]", text)
    return re.sub(
        r"\b(\d+) \* (60|3600|86400)\b", lambda found: f"({found[1]} * {found[2]} / {_FACTOR})", text
    )


def write_shorter(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in RULES.glob("*.yml"):
        content = yaml.safe_load(path.read_text())
        for group in content["groups"]:
            for rule in group["rules"]:
                rule["expr"] = shorter(rule["expr"])
                if "for" in rule:
                    rule["for"] = f"{_ms(int(rule['for'][:-1]) * _UNITS_S[rule['for'][-1]])}ms"
        (folder / path.name).write_text(yaml.safe_dump(content))


def _ms(seconds: int) -> int:
    return seconds * 1000 // _FACTOR


if __name__ == "__main__":
    write_shorter(Path(sys.argv[1]))
