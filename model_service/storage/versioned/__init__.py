"""Documents with a revision: datasets and training jobs."""
