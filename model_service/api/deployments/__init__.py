"""Routes of deployments."""
