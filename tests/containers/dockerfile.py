"""Reads the Dockerfile: its stages, and what each sets for the containers."""

import json
import re
from dataclasses import dataclass, field, replace

from tests.test_docs import ROOT

TARGETS = ("api", "worker", "serving", "all")


@dataclass(frozen=True)
class Image:
    """The configuration of an image."""

    env: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    user: str = ""
    stop_signal: str = ""
    labels: frozenset[str] = frozenset()


def instructions() -> list[tuple[str, str]]:
    """Every instruction, in one line, with its arguments."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for line in joined.splitlines() if line for name, _, rest in [line.partition(" ")]]


def images() -> dict[str, Image]:
    """Every stage by its name, in the order of the file."""
    found: dict[str, Image] = {}
    name, image = "", Image()
    for instruction, rest in instructions():
        match instruction:
            case "FROM":
                parent, _, name = rest.partition(" AS ")
                image = found.get(parent, Image())
            case "ENV":
                image = replace(image, env=image.env | dict(re.findall(r'(\w+)=("[^"]*"|\S+)', rest)))
            case "ENTRYPOINT":
                image = replace(image, entrypoint=tuple(json.loads(rest)))
            case "CMD":
                image = replace(image, command=tuple(json.loads(rest)))
            case "HEALTHCHECK":
                image = replace(image, health=tuple(json.loads(rest.partition("CMD ")[2])))
            case "USER":
                image = replace(image, user=rest)
            case "STOPSIGNAL":
                image = replace(image, stop_signal=rest)
            case "LABEL":
                image = replace(image, labels=image.labels | set(re.findall(r"([\w.]+)=", rest)))
        if name:
            found[name] = image
    return found
