"""Counters of documents and downloads."""
