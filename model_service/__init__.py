"""Model Service: stores models, exports them, verifies the exports and serves them."""

__version__ = "0.2.0"
