"""Routes of health and metrics, the OpenAPI document, and the development server."""
