"""Model Service: keeps models, exports them, proves the result and serves it."""

__version__ = "0.2.0"
