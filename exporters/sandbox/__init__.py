"""Limits of the resources that a conversion may use, and of what it can reach."""
