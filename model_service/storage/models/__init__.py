"""Model versions, their search, and the data derived from them."""
