"""Asking a deployed model: inputs, both protocols, blocking and asynchronous."""
