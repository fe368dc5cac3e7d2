"""Inference requests to deployments: inputs, both protocols, blocking and asynchronous."""
