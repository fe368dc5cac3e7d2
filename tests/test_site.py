"""The documentation as a site: every link leads somewhere, and its pages load nothing from other hosts."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOADED = re.compile(
    r'<(?:script|img|iframe|link rel="(?:stylesheet|preconnect|icon)")[^>]*(?:src|href)="([^"]+)"'
)


def test_the_site_is_built_without_a_warning_and_is_complete_in_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pages = {page.stem for page in (tmp_path / "site").glob("*.html")}
    assert pages - {"404"} == {page.stem for page in (ROOT / "docs").glob("*.md")}
    for page in (tmp_path / "site").glob("*.html"):
        loaded = LOADED.findall(page.read_text())
        assert loaded
        assert [url for url in loaded if "//" in url] == [], page.name
