"""Code that runs a package without this project, generated from the package's metadata.

Nothing that a user named freely is put into code: a wrapper reads labels and titles from metadata.json.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).parent
_PYTHON = ("model_wrapper.py", "example.py", "requirements.txt")


def write(folder: Path, metadata: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    """Write ``README.md`` and ``runtimes/python`` into the package in ``folder``.

    Raises:
        jinja2.TemplateError: a fault of the templates.
    """
    import jinja2

    # Code and Markdown, not HTML: what goes into code is quoted by the template itself.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["literal"] = repr
    target = folder / "runtimes" / "python"
    target.mkdir(parents=True)
    values = {"metadata": metadata, "versions": versions}
    for name in _PYTHON:
        text = environment.get_template(f"python/{name}.jinja").render(values)
        (target / name).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(
        environment.get_template("README.md.jinja").render(values), encoding="utf-8"
    )
