"""The inference server beside the bare session and other inference servers, and what it survives.

``python benchmarks/serving.py``; ``--quick`` is a look, ``--only`` measures some sections again and leaves
the others of ``results/serving.md`` as they are. The peers are installed by this, into environments of their
own; the rates need ``wrk``.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import serving_away
import serving_crash
import serving_hosted
import serving_idle
import serving_malformed
import serving_rates
import serving_runaway
import serving_update
from common import RESULTS, setting, write_results
from serving_load import require_wrk
from serving_peers import PEERS
from serving_service import Service, service


@dataclass(frozen=True)
class Plan:
    """How long to look."""

    rounds: int
    starts: int
    seconds: int
    update_s: float
    runaway_s: float
    crashes: int
    malformed: int
    revocations: int
    peers: Sequence[str]


THOROUGH = Plan(5, 5, 5, 60, 20, 3, 10_000, 5, tuple(PEERS))
QUICK = Plan(1, 1, 2, 12, 6, 1, 1_000, 1, tuple(PEERS))


def _idle(running: Service, folder: Path, plan: Plan) -> str:
    return serving_idle.report(serving_idle.measure(running, folder, rounds=plan.starts, peers=plan.peers))


def _rates(running: Service, folder: Path, plan: Plan) -> str:
    figures = serving_rates.measure(
        running, folder, rounds=plan.rounds, seconds=plan.seconds, peers=plan.peers
    )
    return serving_rates.report(figures)


def _hosted(running: Service, folder: Path, plan: Plan) -> str:
    figures = serving_hosted.measure(running, folder, rounds=plan.rounds, seconds=plan.seconds)
    return serving_hosted.report(figures)


def _runaway(running: Service, folder: Path, plan: Plan) -> str:
    found = serving_runaway.measure(running, folder, rounds=plan.rounds, seconds=plan.runaway_s)
    return serving_runaway.report(found)


def _update(running: Service, _: Path, plan: Plan) -> str:
    return serving_update.report(serving_update.measure(running, seconds=plan.update_s))


def _malformed(running: Service, _: Path, plan: Plan) -> str:
    return serving_malformed.report(serving_malformed.measure(running, count=plan.malformed))


def _crash(running: Service, _: Path, plan: Plan) -> str:
    return serving_crash.report(serving_crash.measure(running, rounds=plan.crashes))


def _keys(running: Service, _: Path, plan: Plan) -> str:
    found = serving_away.measure_revocation(running, rounds=plan.revocations)
    return serving_away.report_revocation(found)


def _away(running: Service, _: Path, __: Plan) -> str:
    return serving_away.report_away(serving_away.measure_away(running))


# In this order: the first hosts one deployment alone, the last takes the databases away.
SECTIONS: dict[str, Callable[[Service, Path, Plan], str]] = {
    "idle": _idle,
    "rates": _rates,
    "hosted": _hosted,
    "runaway": _runaway,
    "update": _update,
    "malformed": _malformed,
    "crash": _crash,
    "keys": _keys,
    "away": _away,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--rounds", type=int, help="of the rates")
    parser.add_argument("--no-peers", action="store_true", help="ours and the bare session alone")
    given = parser.parse_args()
    plan = QUICK if given.quick else THOROUGH
    plan = replace(plan, rounds=given.rounds or plan.rounds, peers=() if given.no_peers else plan.peers)
    if {"rates", "hosted"} & set(given.only):
        require_wrk()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed server is compiled, as the peers are
    texts: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-serving-") as scratch:
        folder = Path(scratch)
        with service(folder) as running:
            for name, section in SECTIONS.items():
                if name in given.only:
                    print(name, flush=True)
                    working = folder / name
                    working.mkdir()
                    texts[name] = section(running, working, plan)
    write_results("serving", _merged(texts))


def _merged(texts: Mapping[str, str]) -> str:
    """These sections, each with the machine and the day, beside what stands in the file of the others."""
    stored = RESULTS / "serving.md"
    found = stored.read_text() if stored.exists() else ""
    sections = {each.partition("\n")[0]: each.rstrip() for each in found.split("\n## ")[1:]}
    for text in texts.values():
        title, _, rest = text.removeprefix("## ").partition("\n")
        sections[title] = f"{title}\n\n{setting()}\n{rest}".rstrip()
    return "# The inference server\n" + "".join(f"\n## {each}\n" for each in sections.values())


if __name__ == "__main__":
    main()
