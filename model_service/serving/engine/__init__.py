"""Runs of models: batches, deadlines, kills."""
