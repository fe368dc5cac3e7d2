"""Archive, integrity, maintenance, workers and inference servers."""
