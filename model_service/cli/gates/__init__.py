"""Commands of promotion gates."""
