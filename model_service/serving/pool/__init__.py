"""The pool: serving processes that share one port, as many as the deployments need, and their supervisor."""
