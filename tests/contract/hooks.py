"""What schemathesis has to know of the service beyond the OpenAPI document. Loaded by SCHEMATHESIS_HOOKS.

A rule between fields, or of a value that the service made, has no form in JSON Schema. A request that breaks
only such a rule is not sent, so that no check needs to be turned off for it.
"""

from collections.abc import Mapping
from typing import Any

import schemathesis

schemathesis.serializer.alias("application/x-tar", "application/octet-stream")

_DEPLOYED = ("export_job_id", "traffic", "models", "ensemble")


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    query = case.query if isinstance(case.query, Mapping) else {}
    if "cursor" in query:  # made by the service
        return False
    if str(query.get("sort", "")).endswith("version") and "name" not in query:
        return False
    if str(query.get("page", "0")).isdecimal() and int(query.get("page", 0)) > 1000:  # too far into a search
        return False
    if "X-Content-SHA256" in (case.headers or {}) and "/parts/" not in case.path:  # of the very body
        return False
    return not isinstance(case.body, dict) or _keeps_rules(case.path, case.body)


def _keeps_rules(path: str, body: dict[str, Any]) -> bool:
    datasets = body.get("datasets")
    if isinstance(datasets, list) and len(datasets) > 1:
        return False  # each with a role once
    if body.get("started_at") is not None and body.get("finished_at") is not None:
        return False  # in this order
    if path.endswith("/export/jobs"):
        if any(body.get(f"{name}_config") for name in ("export", "optimization", "validation")):
            return False  # what each offers is in the capabilities
        return (body.get("model_id") is None) != (body.get("training_job_id") is None)
    if path.endswith("/keys"):
        return body.get("expires_at") is None  # in the future
    if path.endswith("/scale"):
        return bool(body) and (set(body) == {"replicas"} or "replicas" not in body)
    if path.endswith(("/deployments", "/deployments/{deployment_id}")):
        config = body.get("config")
        named = sum(body.get(name) is not None for name in _DEPLOYED)
        if named > 1 or (named == 0 and path.endswith("/deployments")):
            return False
        return not (isinstance(config, dict) and {"replicas", "auto_scaling"} <= config.keys())
    return True
