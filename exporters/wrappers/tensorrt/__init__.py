"""What builds and runs a TensorRT engine; it goes into the package as it is."""
