"""Routes of webhooks and of their deliveries."""
