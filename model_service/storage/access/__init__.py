"""API keys, users, revoked sessions, and counts of requests."""
