"""The workers. A job is a function of an id; the document with that id in MongoDB is its state."""
