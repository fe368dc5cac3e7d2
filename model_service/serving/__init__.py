"""The inference server: packages in, predictions over HTTP out. Imports no framework but the runners'."""
