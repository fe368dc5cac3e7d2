"""Promotion gates of aliases, and the approvals that they count."""
