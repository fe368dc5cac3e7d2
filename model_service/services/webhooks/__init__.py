"""Webhooks: their addresses, and the deliveries of events."""
