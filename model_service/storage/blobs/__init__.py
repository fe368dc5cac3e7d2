"""File bytes in GridFS: blobs, their references, uploads in parts, the disk cache."""
