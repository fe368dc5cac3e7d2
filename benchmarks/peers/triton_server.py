"""Triton with its Python backend: ``python triton_server.py PORT WORKERS name=path …``.

As many callers of the session as workers, and the cores shared among them; its own dynamic batching.
"""

import os
import sys
from collections.abc import Callable

import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

MAX_BATCH = 16


def main(port: str, workers: str, *models: str) -> None:
    count = int(workers)
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(port), allow_grpc=False, allow_metrics=False, log_verbose=0
    )
    with Triton(config=config) as triton:
        for each in models:
            name, _, path = each.partition("=")
            session = InferenceSession(path, _options(count), providers=["CPUExecutionProvider"])
            (given,), (made,) = session.get_inputs(), session.get_outputs()
            triton.bind(
                model_name=name,
                infer_func=[_ask(session) for _ in range(count)],
                inputs=[Tensor(name=given.name, dtype=np.float32, shape=given.shape[1:])],
                outputs=[Tensor(name=made.name, dtype=np.float32, shape=made.shape[1:])],
                config=ModelConfig(max_batch_size=MAX_BATCH),
            )
        triton.serve()


def _options(workers: int) -> SessionOptions:
    options = SessionOptions()
    options.intra_op_num_threads = max(1, (os.cpu_count() or 1) // workers)
    return options


def _ask(session: InferenceSession) -> Callable[..., list[np.ndarray]]:
    @batch
    def ask(**inputs: np.ndarray) -> list[np.ndarray]:
        return session.run(None, inputs)

    return ask


if __name__ == "__main__":
    main(*sys.argv[1:])
