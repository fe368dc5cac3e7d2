"""HTTP: calls, retries, transfers in parts, events."""
