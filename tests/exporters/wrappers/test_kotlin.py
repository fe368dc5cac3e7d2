"""The Kotlin wrappers: parsed, compiled without a warning, their processing run on the JVM against numpy's.

The compiler is that of the PyPI package kotlin-jupyter-kernel. Android and the runtimes are ``stubs/java``.
"""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from exporters import wrappers

from .declarations import DECLARATIONS, Declaration
from .probing import check_prepared, check_read, numbers_of

HERE = Path(__file__).parent
VERSIONS = {"onnxruntime": "1.31.1", "numpy": "2.2"}
STUBS = HERE / "stubs/java"
COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"


def written(declaration: Declaration, format_name: str, folder: Path) -> Path:
    wrappers.write(folder, declaration.metadata(format_name), VERSIONS)
    return folder / "runtimes/kotlin"


@pytest.mark.parametrize("format_name", sorted(wrappers.LANGUAGES["kotlin"].formats))
@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda one: one.id)
def test_it_parses(declaration: Declaration, format_name: str, tmp_path: Path) -> None:
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_kotlin")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))

    folder = written(declaration, format_name, tmp_path)

    assert sorted(file.name for file in folder.iterdir()) == [
        "ModelWrapper.kt",
        "Processing.kt",
        "build.gradle",
    ]
    for file in folder.glob("*.kt"):
        assert not parser.parse(file.read_bytes()).root_node.has_error, file.name
    assert parser.parse(b"fun broken( {").root_node.has_error


def test_a_label_stays_a_label(tmp_path: Path) -> None:
    text = (written(DECLARATIONS[0], "onnx", tmp_path) / "Processing.kt").read_text()

    assert '"\\u0024{rm}"' in text
    assert '"do\\u0022g"' in text
    assert text.isascii()


def compiler() -> tuple[list[str], str]:
    """The command of a Kotlin compiler, and where its standard library is."""
    kernel = find_spec("run_kotlin_kernel")
    if shutil.which("java") and kernel and kernel.submodule_search_locations:
        jars = Path(kernel.submodule_search_locations[0]) / "jars"
        library = next(jars.glob("kotlin-stdlib-*.jar"))
        every = os.pathsep.join(map(str, sorted(jars.glob("*.jar"))))
        return ["java", "-cp", every, COMPILER, "-no-stdlib", "-no-reflect", "-cp", str(library)], str(
            library
        )
    pytest.skip("there is no Kotlin compiler: pip install --no-deps kotlin-jupyter-kernel, and a Java 17")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Java's command line of all declarations, each in a package of its own; the first one for each format.

    One compilation, for it is the compiler's start that takes the time.
    """
    command, library = compiler()
    folder = tmp_path_factory.mktemp("kotlin")
    sources: list[Path] = []
    others = sorted(wrappers.LANGUAGES["kotlin"].formats - {"onnx"})
    compiled = [(one, "onnx") for one in DECLARATIONS] + [(DECLARATIONS[0], name) for name in others]
    for number, (declaration, format_name) in enumerate(compiled):
        source = written(declaration, format_name, folder / str(number))
        probe = "ProbeDetector.kt" if declaration.detects else "ProbeClassifier.kt"
        for file in (*source.glob("*.kt"), HERE / "Probe.kt", HERE / probe):
            target = source / file.name
            target.write_text(file.read_text().replace("package model\n", f"package model{number}\n"))
            sources.append(target)
    done = subprocess.run(
        [*command, "-Werror", *map(str, sources), str(STUBS), "-d", str(folder / "classes")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[:4000]
    return ["java", "-cp", os.pathsep.join([str(folder / "classes"), library])]


@pytest.mark.timeout(900)  # one compilation: 20 s of a core that is not shared
@pytest.mark.parametrize(
    "number",
    [0, *(pytest.param(number, marks=pytest.mark.large) for number in range(1, len(DECLARATIONS)))],
    ids=[one.id for one in DECLARATIONS],
)
def test_it_processes_as_numpy(program: list[str], number: int) -> None:
    declaration = DECLARATIONS[number]
    command = [*program, f"model{number}.ProbeKt"]

    prepared = subprocess.run(
        [*command, "preprocess", *map(str, declaration.pixels)],
        input=declaration.photo().tobytes(),
        capture_output=True,
    )
    read = subprocess.run(
        [*command, "postprocess", *numbers_of(declaration)],
        input=np.ascontiguousarray(declaration.raw()).tobytes(),
        capture_output=True,
    )

    check_prepared(declaration, prepared.stdout, prepared.stderr.decode())
    check_read(declaration, read.stdout.decode())
