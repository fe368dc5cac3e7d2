"""Commands that ask a deployed model."""
