"""Health."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    status: Literal["healthy", "unhealthy"]
    service: Literal["model-service"] = "model-service"
    version: str
    mongodb_connected: bool
    gridfs_available: bool
    redis_connected: bool
    total_models: int | None
    timestamp: datetime
