"""A real MongoDB and a real Redis for a machine that has none, and the launcher behind `model-service up`."""

from model_service.embedded.servers import Addresses, servers

__all__ = ["Addresses", "servers"]
