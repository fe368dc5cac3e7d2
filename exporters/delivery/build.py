"""Build the package that a request describes: the command ``build-package``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DeliveryFailed
from .errors import DeliveryError


def build(request: Mapping[str, Any]) -> dict[str, Any]:
    """Write the package as a zip to ``output``.

    Args:
        request: ``deployment_type``, its ``config``, ``packages`` (name → zip of an export) and ``output``.
            The names in an edge package are the platforms; a container has one package of any name.

    Returns:
        ``size_bytes`` of the zip.

    Raises:
        DeliveryFailed: the package cannot be built of these.
    """
    from .container import Form
    from .container import write as write_container
    from .edge import write as write_edge

    config, output = request["config"], Path(request["output"])
    packages = {name: Path(path) for name, path in request["packages"].items()}
    try:
        if request["deployment_type"] == "edge_package":
            write_edge(output, config["target_platform"], packages)
        else:
            (package,) = packages.values()
            form: Form = "triton" if config["inference_framework"] == "triton" else "server"
            name, tag = config["image_name"], config["image_tag"]
            write_container(output, package, form=form, image_name=name, image_tag=tag)
    except DeliveryError as exc:
        raise DeliveryFailed(str(exc)) from exc
    return {"size_bytes": output.stat().st_size}
