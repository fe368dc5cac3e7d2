"""The connection, the collections and their indexes, and what several stores share."""
