"""Renders the templates of generated code and Markdown."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .literals import FILTERS

_FOLDERS = (Path(__file__).parent, Path(__file__).parents[1] / "delivery" / "templates")


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return the text of a template of this package or of ``delivery/templates``.

    The filters are ``literal`` (Python's repr) and those of literals.

    Raises:
        jinja2.TemplateError: an error in the template.
    """
    text: str = _environment().get_template(template).render(values)
    return text


@cache
def _environment() -> Any:
    """Return the process's environment: compiling templates takes longer than most small conversions."""
    import jinja2

    # Code and Markdown, not HTML: what goes into code is quoted by the template itself.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDERS),
        autoescape=False,  # noqa: S701
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["literal"] = repr
    environment.filters.update(FILTERS)
    return environment
