"""Deployments: changes, keys, limits, usage."""
