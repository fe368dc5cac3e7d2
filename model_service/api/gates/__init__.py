"""Routes of promotion gates and approvals."""
