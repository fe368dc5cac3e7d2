"""One file per target, named source_to_target; ``exporters.registry`` lists them."""
