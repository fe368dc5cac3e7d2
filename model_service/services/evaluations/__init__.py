"""Evaluations of model versions and exports on datasets."""
