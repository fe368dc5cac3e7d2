"""What the workers do. A job is a function of an id; its truth is the document with that id in MongoDB."""
