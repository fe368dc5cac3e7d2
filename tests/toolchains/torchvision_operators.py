"""Empty: an environment of 0.1.0 imports it at every start, until `scripts/install` updates it."""
