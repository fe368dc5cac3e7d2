"""Where things are kept. Nothing outside this package imports pymongo or gridfs."""
