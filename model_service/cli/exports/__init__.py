"""Commands for exports."""
