"""The RSGI application: requests in, answers out."""
