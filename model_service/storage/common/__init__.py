"""The connection, the collections and their indexes, and code that several stores share."""
