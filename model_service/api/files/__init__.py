"""Routes of files, uploads and downloads."""
