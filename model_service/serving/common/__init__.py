"""Functions shared by the engine and the model hosts."""
