"""Deployments in memory: loaded, routed, shadowed, replaced."""
