"""The RSGI application of the inference server."""
