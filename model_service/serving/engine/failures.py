"""Errors of a model's run that are returned to callers."""

from model_service.errors import InvalidRequest, ServiceFailure


class DeadlineExceeded(ServiceFailure):
    """The run took too long. There is no Retry-After: the same request may be as slow later."""

    code = "deadline_exceeded"
    status = 504

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The model did not answer within the deployment's {timeout_s:g} s.")


class ModelCrashed(ServiceFailure):
    """The model ended its process on this input, which is refused from now on."""

    code = "model_crashed"
    status = 500

    def __init__(self, how: str) -> None:
        super().__init__(
            f"The model crashed on this input ({how}). The same input is rejected for an hour, or "
            "until the deployment has a new revision.",
            how=how,
        )


class ModelOutOfMemory(ServiceFailure):
    """A run needs more memory than INFERENCE_MEMORY, or its tensors more than INFERENCE_TENSORS."""

    code = "model_out_of_memory"
    status = 500

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The model needs more memory for this input than allowed: {reason[:300]} Send fewer "
            "rows per request. The limits are INFERENCE_MEMORY and INFERENCE_TENSORS."
        )


class InputRefused(InvalidRequest):
    """The same input ended the model's process before."""

    code = "input_refused"
    status = 422

    def __init__(self, how: str) -> None:
        super().__init__(
            f"This input crashed the model's process before ({how}), so it is not run again. It is "
            "accepted after an hour, or when the deployment has a new revision.",
            how=how,
        )
