"""Health, integrity and cleanup."""
