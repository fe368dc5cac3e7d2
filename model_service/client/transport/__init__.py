"""The client's HTTP: calls, retries, uploads in parts, events."""
