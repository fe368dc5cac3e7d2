"""Model versions, and what is found and derived from them."""
