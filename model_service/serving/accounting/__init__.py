"""Keys, quotas and usage, counted without a write on a request's path."""
