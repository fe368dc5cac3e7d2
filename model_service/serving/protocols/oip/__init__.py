"""The Open Inference Protocol v2, JSON and binary, as used by ``tritonclient``.

https://github.com/kserve/open-inference-protocol, and Triton's extensions for binary tensors, classification,
statistics, the model's configuration and the repository's index (docs/protocol/extension_*.md in
triton-inference-server/server). A binary message is JSON, whose length is in the header JSON_BYTES, followed
by the raw tensors in the order in which the JSON names them.
"""

from .answers import encode as encode
from .columns import inputs_of as inputs_of
from .requests import JSON_BYTES as JSON_BYTES
from .requests import Request as Request
from .requests import Wanted as Wanted
from .requests import decode as decode
from .texts import may_hold_texts as may_hold_texts
