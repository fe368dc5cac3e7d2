"""Deployed age groups of models, and integer ids."""
