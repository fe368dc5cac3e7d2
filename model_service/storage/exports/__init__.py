"""Export jobs, their quotas and their order."""
