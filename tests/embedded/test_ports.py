"""A port stays the same while it is free, and never clashes."""

import socket
from pathlib import Path

from model_service.embedded.ports import remembered_port


def test_a_port_is_kept_until_somebody_else_has_it(tmp_path: Path) -> None:
    note = tmp_path / "port"
    first = remembered_port(note)
    assert remembered_port(note) == first
    with socket.create_server(("127.0.0.1", first)):
        second = remembered_port(note)
        assert second != first
    assert remembered_port(note) == second


def test_a_damaged_note_is_replaced(tmp_path: Path) -> None:
    note = tmp_path / "port"
    note.write_text("80; rm")
    port = remembered_port(note)
    assert note.read_text() == f"{port}\n"
