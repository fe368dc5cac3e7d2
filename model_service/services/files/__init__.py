"""The files of models and datasets: uploads, downloads, changes."""
