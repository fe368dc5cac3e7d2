"""The dashboards, one module each."""

from .capacity import CAPACITY
from .endpoints import ENDPOINTS
from .exports import EXPORTS
from .registry import REGISTRY
from .storage import STORAGE
from .workers_and_queue import WORKERS_AND_QUEUE

BOARDS = [REGISTRY, EXPORTS, ENDPOINTS, WORKERS_AND_QUEUE, STORAGE, CAPACITY]
