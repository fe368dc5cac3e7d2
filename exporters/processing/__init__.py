"""The processing before and after a model: declared in metadata.json, the same in every wrapper and
server.
"""
