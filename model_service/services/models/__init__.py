"""Models: versions, aliases, lineage, search, trash."""
