"""The launcher behind `model-service up`, and a real MongoDB and Redis for machines without them."""

from model_service.embedded.servers import Addresses, servers

__all__ = ["Addresses", "servers"]
