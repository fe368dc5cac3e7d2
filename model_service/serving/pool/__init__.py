"""The pool: serving processes that share one port, as many as the deployments want, and their supervisor."""
