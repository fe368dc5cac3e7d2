from .panels import Board, Panel, quantile, rate

EXPORTS = Board(
    "Exports",
    [
        Panel(
            "Attempts by outcome",
            {"{{outcome}}": rate("model_service_exports_total", "outcome")},
            "ops",
            stacked=True,
        ),
        Panel(
            "Attempts by format",
            {"{{format}}": rate("model_service_exports_total", "format")},
            "ops",
            stacked=True,
        ),
        Panel(
            "Failures in an hour by error code",
            {"{{error_code}}": "sum by (error_code) (increase(model_service_export_failures_total[1h]))"},
            description="The codes are explained in docs/api.md.",
            stacked=True,
        ),
        Panel(
            "Share of failed exports in an hour",
            {
                "failed": "sum(increase(model_service_export_failures_total[1h]))"
                " / (sum(increase(model_service_export_failures_total[1h]))"
                ' + (sum(increase(model_service_exports_total{outcome=~"completed|reused"}[1h]))'
                " or vector(0)))"
            },
            "percentunit",
            most=1,
        ),
        Panel(
            "Duration by format (median)",
            {"{{format}}": quantile(0.5, "model_service_export_duration_seconds", "format")},
            "s",
        ),
        Panel(
            "Duration by format (p95)",
            {"{{format}}": quantile(0.95, "model_service_export_duration_seconds", "format")},
            "s",
        ),
        Panel(
            "Verification failures in an hour",
            {
                "verification_failed": "sum(increase("
                'model_service_export_failures_total{error_code="verification_failed"}[1h]))'
            },
        ),
        Panel(
            "Scanned files by verdict",
            {"{{verdict}}": rate("model_service_file_scans_total", "verdict")},
            "ops",
            stacked=True,
        ),
    ],
)
