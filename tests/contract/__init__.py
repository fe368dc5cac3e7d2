"""Both servers against their OpenAPI documents, by schemathesis."""
