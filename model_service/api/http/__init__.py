"""Shared by all routes: context, errors, limits, permissions, bodies, transfers."""
