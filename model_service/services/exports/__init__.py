"""Export jobs: requests, limits, changes, events."""
