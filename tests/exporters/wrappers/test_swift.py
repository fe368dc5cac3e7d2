"""The Swift wrappers are parsed: there is no Swift compiler with the runtimes outside of Apple's systems."""

from pathlib import Path

import pytest

from exporters import wrappers

from .declarations import DECLARATIONS, Declaration

tree_sitter = pytest.importorskip("tree_sitter")
grammar = pytest.importorskip("tree_sitter_swift")


def parsed(source: bytes) -> object:
    """The tree of a file without one error in it."""
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(source)
    wrong, nodes = [], [tree.root_node]
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.is_error or node.is_missing:
            wrong.append((node.start_point.row + 1, node.text.decode()[:80]))
    assert wrong == []
    return tree.root_node


@pytest.mark.parametrize("format_name", sorted(wrappers.LANGUAGES["swift"].formats))
@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda one: one.id)
def test_it_parses(declaration: Declaration, format_name: str, tmp_path: Path) -> None:
    wrappers.write(tmp_path, declaration.metadata(format_name), {"onnxruntime": "1.31.1", "numpy": "2.2"})

    files = sorted((tmp_path / "runtimes/swift").iterdir())

    package = "ModelWrapper.podspec" if format_name == "tflite" else "Package.swift"
    assert [file.name for file in files] == sorted(["ModelWrapper.swift", package, "Processing.swift"])
    for file in files:
        if file.suffix == ".swift":
            parsed(file.read_bytes())


def test_the_grammar_finds_errors() -> None:
    with pytest.raises(AssertionError):
        parsed(b"func broken( {")


def test_a_label_stays_a_label(tmp_path: Path) -> None:
    wrappers.write(tmp_path, DECLARATIONS[0].metadata("coreml"), {})

    text = (tmp_path / "runtimes/swift/Processing.swift").read_text()

    assert '"\\u{5c}(x)"' in text
    assert '"do\\u{22}g"' in text
    assert text.isascii()
