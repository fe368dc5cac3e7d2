"""MLServer's custom runtime: one onnxruntime session, asked in the server's own process."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnxruntime import InferenceSession


class OnnxModel(MLModel):
    async def load(self) -> bool:
        assert self._settings.parameters is not None
        self._session = InferenceSession(self._settings.parameters.uri, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        names = [each.name for each in self._session.get_outputs()]
        outputs = self._session.run(names, inputs)
        encoded = [NumpyCodec.encode_output(name, each) for name, each in zip(names, outputs, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=encoded)
