"""Bars: shown to whoever asks, or watches; never a way for an upload to reach the terminal."""

from pathlib import Path

import pytest

from model_service.client import ModelServiceClient

from ..scripted import Scripted, answers, serves


def test_a_wanted_bar_names_the_file_and_ends_at_all_of_it(
    script: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.steps = [serves(b"x" * 2_000_000)]
    ModelServiceClient(script.url, progress=True).download_model("m1", tmp_path / "digits.bin")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "digits.bin" in shown.err
    assert "100%" in shown.err


@pytest.mark.parametrize("progress", [None, False])
def test_no_bar_without_a_terminal(
    script: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str], progress: bool | None
) -> None:
    script.steps = [serves(b"x")]
    ModelServiceClient(script.url, progress=progress).download_model("m1", tmp_path / "digits.bin")
    assert capsys.readouterr().err == ""


def test_the_message_of_a_job_cannot_drive_the_terminal(
    script: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    message = rb'{"id": "j1", "status": "completed", "progress_message": "\u001b[2J[b]done"}'
    script.steps = [answers(200, message)]
    ModelServiceClient(script.url).wait_for_export("j1", progress=True)
    shown = capsys.readouterr().err
    assert "[b]done" in shown
    assert "\x1b[2J" not in shown
