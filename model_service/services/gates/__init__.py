"""Promotion gates: conditions that a version must meet to get an alias, and the approvals of users."""
