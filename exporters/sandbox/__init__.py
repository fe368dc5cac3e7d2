"""What a conversion may use and reach."""
