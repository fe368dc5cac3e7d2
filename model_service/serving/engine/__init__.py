"""Runs of models: batches, deadlines, killed processes."""
