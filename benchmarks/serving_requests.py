"""Requests that are right but for one thing: the head, the JSON, a length, a shape, a dtype, a value.

The same seed gives the same ones. Some claim a gigabyte that never comes.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random as Chance
from typing import Any

import orjson
from serving_models import Question


class MalformedRequests:
    """Malformed requests to one deployment; ``question`` is a right one, in binary."""

    def __init__(self, question: Question, deployment_id: str, headers: Mapping[str, str]) -> None:
        self._question = question
        self._id = deployment_id
        self._head_bytes = int(question.headers["Inference-Header-Content-Length"])
        self._headers = headers
        self._kinds: Sequence[Callable[[Chance], bytes]] = (
            *(self._http, self._random_json, self._cut_json, self._field, self._header_length),
            *(self._claim, self._not_finite, self._platform, self._npy, self._noise),
        )

    def one(self, chance: Chance) -> bytes:
        return chance.choice(self._kinds)(chance)

    def head(
        self,
        length: object,
        *,
        path: str | None = None,
        method: str = "POST",
        more: Mapping[str, object] | None = None,
    ) -> bytes:
        path = path or f"/v2/models/{self._id}/infer"
        headers = {"Host": "127.0.0.1", **self._headers, "Content-Length": length, **(more or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace")

    def _v2(self, body: bytes, head_bytes: object = None) -> bytes:
        more = {} if head_bytes is None else {"Inference-Header-Content-Length": head_bytes}
        return self.head(len(body), more=more) + body

    def _document(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self._question.body[: self._head_bytes])
        return found

    def _http(self, chance: Chance) -> bytes:
        """The head itself, or how the body is said to come."""
        body = self._question.body
        lengths = {"Inference-Header-Content-Length": self._head_bytes}
        return chance.choice(
            [
                _random_bytes(chance, 200) + b"\r\n\r\n",
                self.head(-1) + body,
                self.head("1e3") + body,
                self.head(len(body), path=f"/v2/models/{'%ff' * 50}/infer") + body,
                self.head(len(body), path=f"/v2/models/{self._id}/versions/{'9' * 400}/infer") + body,
                self.head(len(body), path="/v1/infer/" + "../" * 30) + body,
                self.head(len(body), method=chance.choice(["GET", "PUT", "BREW"])) + body,
                self.head(len(body), more={"Authorization": "Bearer " + "x" * chance.choice([0, 9, 6000])})
                + body,
                self.head(len(body), more={"Content-Encoding": chance.choice(["gzip", "deflate", "zz"])})
                + body,
                self.head(len(body), more=lengths | {"Transfer-Encoding": "chunked"}) + b"zz\r\n" + body,
                self.head(len(body), more={"Content-Type": _random_bytes(chance, 40).hex()}) + body,
            ]
        )

    def _random_json(self, chance: Chance) -> bytes:
        return self._v2(orjson.dumps(_random_value(chance, 4)))

    def _cut_json(self, chance: Chance) -> bytes:
        body = bytearray(self._question.body)
        if chance.random() < 0.5:
            return self._v2(bytes(body[: chance.randrange(len(body))]), self._head_bytes)
        for _ in range(chance.randrange(1, 8)):
            body[chance.randrange(self._head_bytes)] = chance.randrange(256)
        return self._v2(bytes(body), self._head_bytes)

    def _field(self, chance: Chance) -> bytes:
        """One field of the protocol with something else in it."""
        document = self._document()
        given = document["inputs"][0]
        name = chance.choice(["name", "shape", "datatype", "parameters", "data", "id", "outputs", "inputs"])
        value: Any = _random_value(chance, 2)
        if chance.random() < 0.6:
            value = {
                "shape": [
                    chance.choice([-1, 0, 1, 2, 63, 2**31, 2**63 - 1]) for _ in range(chance.randrange(5))
                ],
                "datatype": chance.choice(
                    ["FP16", "FP64", "INT8", "UINT64", "BOOL", "BYTES", "BF16", "fp32"]
                ),
                "outputs": [{"name": chance.choice(["output", "nobody"]), "parameters": value}],
                "inputs": [given] * chance.choice([0, 2, 200]),
                "parameters": {"binary_data_size": chance.choice([-1, 0, 3, 2**40, "4", None, 1.5])},
            }.get(name, value)
        place = document if name in ("id", "outputs", "inputs") else given
        place[name] = value
        head = orjson.dumps(document)
        return self._v2(head + self._question.body[self._head_bytes :], len(head))

    def _header_length(self, chance: Chance) -> bytes:
        wrong = [-1, 0, 1, self._head_bytes - 1, self._head_bytes + 1, 2**31, 2**64, "x", "", "1_0", "٣"]
        return self._v2(self._question.body, chance.choice(wrong))

    def _claim(self, chance: Chance) -> bytes:
        """A gigabyte that does not come."""
        document = self._document()
        document["inputs"][0]["shape"] = [2**28]
        document["inputs"][0]["parameters"]["binary_data_size"] = 2**30
        head = orjson.dumps(document)
        length = {"Inference-Header-Content-Length": len(head)}
        return chance.choice(
            [
                self._v2(head, len(head)),
                self.head(2**30, more=length) + head,
                self.head(len(head) + 60_000_000, more=length) + head,
                self.head(2**30, path=f"/v1/infer/{self._id}", more={"Content-Type": "application/x-npy"}),
            ]
        )

    def _not_finite(self, chance: Chance) -> bytes:
        word = chance.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1e39", b"null", b'"1"', b"0x1"])
        numbers = b",".join([b"0"] * 63 + [word])
        given = b'{"inputs":[{"name":"%s","shape":[1,64],"datatype":"FP32","data":[%s]}]}'
        return self._v2(given % (self._document()["inputs"][0]["name"].encode(), numbers))

    def _platform(self, chance: Chance) -> bytes:
        """To the platform's own address."""
        body = chance.choice(
            [
                orjson.dumps({"inputs": _random_value(chance, 3)}),
                orjson.dumps({"image": "!" * chance.randrange(100), "confidence_threshold": "high"}),
                b'{"inputs": ' + b"[" * chance.choice([100, 100_000]),
                b'{"inputs": [[' + b",".join([b"1e400"] * 64) + b"]]}",
            ]
        )
        more = {
            "Content-Type": chance.choice(
                ["application/json", "multipart/form-data; boundary=b", "text/html"]
            )
        }
        return self.head(len(body), path=f"/v1/infer/{self._id}", more=more) + body

    def _npy(self, chance: Chance) -> bytes:
        described = chance.choice(
            [
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824,), }",
                "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
                "{'descr': '<f4', 'fortran_order': True, 'shape': (-1, 64), }",
                "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1, 64), }",
                "__import__('os').getcwd()",
                "{" * 50,
            ]
        )
        header = described.encode().ljust(117) + b"\n"
        body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        body += _random_bytes(chance, 300)
        more = {"Content-Type": chance.choice(["application/x-npy", "application/x-npz"])}
        return self.head(len(body), path=f"/v1/infer/{self._id}", more=more) + body

    def _noise(self, chance: Chance) -> bytes:
        body = _random_bytes(chance, 2000)
        return self._v2(body, chance.choice([None, len(body), len(body) // 2]))


def _random_bytes(chance: Chance, most: int) -> bytes:
    return chance.randbytes(chance.randrange(1, most))


def _random_value(chance: Chance, depth: int) -> Any:
    kind = chance.randrange(8 if depth else 6)
    if kind == 6:
        return [_random_value(chance, depth - 1) for _ in range(chance.randrange(6))]
    if kind == 7:
        keys = ["inputs", "data", "shape", "name", "datatype", "parameters", "outputs", "id", "\u0000", ""]
        return {chance.choice(keys): _random_value(chance, depth - 1) for _ in range(chance.randrange(5))}
    plain = [
        None,
        chance.random() < 0.5,
        chance.randrange(-(2**63), 2**63),
        chance.gauss(0, 1e30),
        "é" * 9,
        "",
    ]
    return plain[kind]
