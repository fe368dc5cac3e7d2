"""The processing before and after a model, declared in metadata.json and equal in wrappers and servers."""
