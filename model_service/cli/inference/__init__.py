"""Commands for inference."""
