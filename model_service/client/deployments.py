"""Calls on deployments, and predictions."""

from dataclasses import replace
from typing import Any

from model_service.client.calls import Calls, wait
from model_service.client.errors import DeploymentFailed, InvalidArgument
from model_service.client.http import segment
from model_service.client.inputs import encode
from model_service.client.records import Page
from model_service.client.types import Deployment, Prediction
from model_service.states import DeploymentStatus, DeploymentType

DEPLOYMENTS = "/api/v1/deployments"


class DeploymentCalls(Calls):
    def create_deployment(
        self,
        export_job_id: str,
        name: str,
        *,
        deployment_type: str = DeploymentType.PLATFORM_ENDPOINT,
        description: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> Deployment:
        """The deployment, not yet serving. Its ``api_key`` is told here and never again: keep it.

        Raises:
            Conflict: the export is not completed, or not proven (code ``not_verified``).
        """
        fields = {
            "export_job_id": export_job_id,
            "name": name,
            "deployment_type": deployment_type,
            "description": description,
            "config": config,
        }
        data = {field: value for field, value in fields.items() if value is not None}
        return Deployment.from_json(self._transport.create(DEPLOYMENTS, data))

    def get_deployment(self, deployment_id: str) -> Deployment:
        return Deployment.from_json(self._transport.json("GET", f"{DEPLOYMENTS}/{segment(deployment_id)}"))

    def list_deployments(self, *, page: int | None = None, limit: int | None = None) -> Page[Deployment]:
        return self._page(DEPLOYMENTS, "deployments", Deployment, {"page": page, "limit": limit})

    def delete_deployment(self, deployment_id: str) -> dict[str, Any]:
        """The service's answer; NotFound may mean that a first, lost answer already was the deletion."""
        return self._transport.json("DELETE", f"{DEPLOYMENTS}/{segment(deployment_id)}")

    def wait_for_deployment(self, deployment: str | Deployment, *, timeout_s: float = 120) -> Deployment:
        """The deployment, serving; the key of the Deployment that was passed in stays with it.

        Raises:
            DeploymentFailed: it failed, or was switched off meanwhile.
            WaitTimedOut: not serving in ``timeout_s``; the start goes on.
        """
        known = deployment if isinstance(deployment, Deployment) else None
        deployment_id = deployment if isinstance(deployment, str) else deployment.id
        seen = wait(lambda: self.get_deployment(deployment_id), lambda each: each.settled, timeout_s)
        if seen.status != DeploymentStatus.ACTIVE:
            reason = seen.error_message or "the service gave no reason."
            message = f"Deployment {seen.id} is {seen.status}: {reason}"
            raise DeploymentFailed(seen, message, "deployment_failed")
        if known is None or known.api_key is None:
            return seen
        return replace(seen, api_key=known.api_key, raw={**seen.raw, "api_key": known.api_key})

    def predict(self, deployment: str | Deployment, inputs: Any, *, api_key: str | None = None) -> Prediction:
        """Asks a deployment, given as itself, by id (which costs a look-up each time) or by endpoint URL.

        ``inputs`` has the batch as its first axis: a numpy array (sent as binary), nested lists, the bytes of
        a ``.npy`` file, or a dict of arrays or lists by input name. ``api_key`` is the deployment's and
        defaults to the one the Deployment carries.

        Raises:
            Unauthorized: no key, or a wrong one.
            InvalidRequest: the inputs do not fit the model.
            InvalidArgument: the inputs cannot be sent, or nothing serves them yet.
        """
        body, content_type = encode(inputs)
        if isinstance(deployment, str) and "://" in deployment:
            endpoint = deployment
        else:
            if isinstance(deployment, str):
                deployment = self.get_deployment(deployment)
            if deployment.endpoint_url is None:
                raise InvalidArgument(
                    f"Deployment {deployment.id} is {deployment.status} and has no endpoint yet."
                )
            endpoint, api_key = deployment.endpoint_url, api_key or deployment.api_key
        headers = {"Content-Type": content_type}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        return Prediction.from_json(self._transport.json("POST", endpoint, body=body, headers=headers))
