"""What the engine and the model hosts share."""
