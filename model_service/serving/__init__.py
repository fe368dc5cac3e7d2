"""The inference server: it serves packages over HTTP. Imports no framework except those of the runners."""
