"""Deployments in memory: loading, routing, shadow traffic, replacement."""
