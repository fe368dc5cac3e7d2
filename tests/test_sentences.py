"""Options of an export, as the sender of a request writes them."""

import pytest

from exporters.errors import UnsupportedOption
from exporters.sources import inputs
from model_service.sentences import as_field


def test_a_message_names_the_field_of_the_request() -> None:
    with pytest.raises(UnsupportedOption) as missing:
        inputs.parse(None, ["x"], "TorchScript")
    with pytest.raises(UnsupportedOption) as wrong:
        inputs.parse([{"shape": 3}], ["x"], "TorchScript")

    for caught in (missing, wrong):
        message = as_field(caught.value.message)
        assert "export_config.inputs" in message
        assert "option" not in message
        assert '"inputs": [{"name"' in message
