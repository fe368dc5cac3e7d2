"""What users read about a child that exceeded a limit or crashed."""

from contextlib import closing

import pytest

from model_service.jobs.command import EVALUATION, EXPORT, INSPECTION, Command
from model_service.jobs.context import Context
from model_service.jobs.converter import ConversionError
from tests.jobs.scripted import PROGRESS, script


@pytest.mark.parametrize("command", [EXPORT, EVALUATION, INSPECTION], ids=lambda command: command.name)
@pytest.mark.parametrize(
    ("ending", "timeout_s", "code"),
    [
        ("time.sleep(60)", 0.5, "timeout"),
        ("os.kill(os.getpid(), 9)", 60.0, "limit_exceeded"),
        ("os.abort()", 60.0, "converter_crashed"),
    ],
)
def test_the_message_has_the_noun_and_the_advice_of_the_command(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    ending: str,
    timeout_s: float,
    code: str,
) -> None:
    script(context, monkeypatch, PROGRESS, ending=ending)
    with closing(context.converter.start(command)) as child, pytest.raises(ConversionError) as failure:
        child.convert(
            {"dataset": {"path": __file__}},
            timeout_s=timeout_s,
            on_progress=lambda event: None,
            on_step=lambda event: None,
            abandoned=lambda: False,
        )
    message = failure.value.message
    assert failure.value.code == code
    assert message.startswith(f"The {command.noun} ")
    advice = command.other if code == "converter_crashed" else command.smaller.lower()
    assert advice in message.replace("Upload", "upload")
    assert ("EXPORT_TIMEOUT_S" in message) == (code == "timeout" and command is not INSPECTION)
    if command is INSPECTION:
        assert "model" not in message
