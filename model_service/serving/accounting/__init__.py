"""Keys, quotas and usage, counted without a database write while a request is processed."""
