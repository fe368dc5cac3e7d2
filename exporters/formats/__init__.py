"""One file per conversion, named source_to_target; ``exporters.registry`` lists them."""
