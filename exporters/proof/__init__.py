"""The comparison of an artefact with its source: its inputs, its verdict, and the data that packages keep."""
