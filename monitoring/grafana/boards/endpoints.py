from .panels import DEPLOYMENT, SELECTED, Board, Panel, quantile, rate

ENDPOINTS = Board(
    "Endpoints",
    [
        Panel(
            "Requests",
            {"{{deployment}}": rate(f"{DEPLOYMENT}_requests_total", "deployment", SELECTED)},
            "reqps",
            stacked=True,
        ),
        Panel(
            "Requests by outcome",
            {"{{outcome}}": rate(f"{DEPLOYMENT}_requests_total", "outcome", SELECTED)},
            "reqps",
            stacked=True,
        ),
        Panel(
            "Error ratio",
            {
                "{{deployment}}": rate(
                    f"{DEPLOYMENT}_requests_total", "deployment", f'{SELECTED},outcome="server_error"'
                )
                + " / "
                + rate(f"{DEPLOYMENT}_requests_total", "deployment", SELECTED)
            },
            "percentunit",
            "The share of requests that failed with a 5xx status.",
            most=1,
        ),
        Panel(
            "Latency (median)",
            {
                "{{deployment}}": quantile(
                    0.5, f"{DEPLOYMENT}_request_duration_seconds", "deployment", SELECTED
                )
            },
            "s",
        ),
        Panel(
            "Latency (p99)",
            {
                "{{deployment}}": quantile(
                    0.99, f"{DEPLOYMENT}_request_duration_seconds", "deployment", SELECTED
                )
            },
            "s",
        ),
        Panel(
            "Mean batch size",
            {
                "{{deployment}} {{member}}": rate(
                    f"{DEPLOYMENT}_batch_rows_total", "deployment, member", SELECTED
                )
                + " / "
                + rate(f"{DEPLOYMENT}_batches_total", "deployment, member", SELECTED)
            },
            description="Rows in a run of the model.",
        ),
        Panel(
            "Traffic of the members",
            {
                "{{deployment}} {{member}}": rate(
                    f"{DEPLOYMENT}_requests_total", "deployment, member", SELECTED
                )
            },
            "reqps",
            stacked=True,
        ),
        Panel(
            "Agreement of the shadow",
            {
                "{{deployment}}": rate(
                    f"{DEPLOYMENT}_shadow_requests_total", "deployment", f'{SELECTED},outcome="agreed"'
                )
                + " / "
                + rate(
                    f"{DEPLOYMENT}_shadow_requests_total",
                    "deployment",
                    f'{SELECTED},outcome=~"agreed|differed"',
                )
            },
            "percentunit",
            "The share of compared requests in which the shadow returned the same outputs.",
            most=1,
        ),
        Panel(
            "Time in the models",
            {"{{deployment}}": rate(f"{DEPLOYMENT}_inference_seconds_total", "deployment", SELECTED)},
            "short",
            "Seconds of inference in a second: 1 is one model that runs all the time.",
        ),
        Panel(
            "Deployments",
            {
                "loaded": "min(model_service_loaded_deployments)",
                "failing": "max(model_service_failing_deployments)",
            },
            description="Loaded by every serving process; failing in at least one.",
        ),
    ],
    {"deployment": f"label_values({DEPLOYMENT}_requests_total, deployment)"},
)
