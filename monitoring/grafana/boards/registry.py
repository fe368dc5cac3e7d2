from .panels import API_REQUESTS, Board, Panel, quantile, rate

REGISTRY = Board(
    "Registry",
    [
        Panel("Models", {"models": "max(model_service_models_total)"}, single=True),
        Panel("Active models", {"active": "max(active_models_total)"}, single=True),
        Panel("Stored bytes", {"stored": "max(storage_usage_bytes)"}, "bytes", single=True),
        Panel(
            "Failed requests (SLO: 0.1 %)",
            {"5 minutes": "model_service:api_errors:ratio_rate5m"},
            "percentunit",
            single=True,
        ),
        Panel(
            "Requests by status",
            {"{{status}}": rate("model_service_api_requests_total", "status", API_REQUESTS)},
            "reqps",
            stacked=True,
        ),
        Panel(
            "Error ratio by window",
            {
                window: f"model_service:api_errors:ratio_rate{window}"
                for window in ("5m", "30m", "1h", "6h", "3d")
            },
            "percentunit",
            "The windows of the burn-rate alerts. The budget is 0.1 %.",
        ),
        Panel(
            "Time until the response's headers",
            {
                "p50": quantile(0.5, "model_service_request_duration_seconds", where=API_REQUESTS),
                "p99": quantile(0.99, "model_service_request_duration_seconds", where=API_REQUESTS),
            },
            "s",
        ),
        Panel(
            "Slow requests by window",
            {window: f"model_service:api_slow:ratio_rate{window}" for window in ("5m", "1h", "6h")},
            "percentunit",
            "The share of requests for metadata that took more than 0.5 s. The budget is 1 %.",
        ),
        Panel(
            "Busiest routes",
            {
                "{{method}} {{endpoint}}": "topk(10, "
                + rate("model_service_api_requests_total", "method, endpoint", API_REQUESTS)
                + ")"
            },
            "reqps",
        ),
        Panel(
            "Slowest routes (p99)",
            {
                "{{method}} {{endpoint}}": "topk(10, "
                + quantile(0.99, "model_service_request_duration_seconds", "method, endpoint", API_REQUESTS)
                + ")"
            },
            "s",
        ),
        Panel(
            "Registered versions by algorithm",
            {"{{algorithm}}": rate("model_registrations_total", "algorithm")},
            "ops",
        ),
        Panel(
            "Downloads by algorithm",
            {"{{algorithm}}": rate("model_service_downloads_total", "algorithm")},
            "ops",
        ),
        Panel(
            "Commands to MongoDB",
            {
                "{{operation}}": "topk(10, "
                + rate("model_service_mongodb_operations_total", "operation")
                + ")"
            },
            "ops",
        ),
        Panel(
            "Sign-ins with a password",
            {"{{outcome}}": rate("model_service_logins_total", "outcome")},
            "ops",
        ),
    ],
)
