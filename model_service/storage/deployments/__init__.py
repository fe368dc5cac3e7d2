"""Deployments, their keys, history, logs, quotas and usage."""
