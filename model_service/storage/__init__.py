"""Storage in MongoDB and Redis. Only this package imports pymongo and gridfs."""
