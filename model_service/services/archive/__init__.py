"""Backup and restore: the archive of all documents and files."""
