"""Bytes in GridFS: blobs, references to them, uploads, the cache on the disk."""
