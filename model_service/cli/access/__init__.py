"""Commands for users, sessions and API keys."""
