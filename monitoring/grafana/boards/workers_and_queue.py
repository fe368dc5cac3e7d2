from .panels import Board, Panel, rate

WORKERS_AND_QUEUE = Board(
    "Workers and queue",
    [
        Panel("Live workers", {"workers": "max(model_service_workers)"}, single=True),
        Panel("Waiting exports", {"waiting": "max(model_service_queue_jobs)"}, single=True),
        Panel(
            "Age of the oldest waiting export",
            {"age": "max(model_service_queue_oldest_age_seconds)"},
            "s",
            single=True,
        ),
        Panel("Waiting evaluations", {"waiting": "max(model_service_queue_evaluations)"}, single=True),
        Panel("Waiting inspections", {"waiting": "max(model_service_queue_inspections)"}, single=True),
        Panel("Waiting scans", {"waiting": "max(model_service_queue_scans)"}, single=True),
        Panel(
            "Exports",
            {"waiting": "max(model_service_queue_jobs)", "running": "max(model_service_running_jobs)"},
        ),
        Panel(
            "Busy workers",
            {"busy": "max(model_service_running_jobs) / max(model_service_workers)"},
            "percentunit",
            "The share of the live workers that run an export.",
        ),
        Panel(
            "Oldest export",
            {
                "waiting": "max(model_service_queue_oldest_age_seconds)",
                "running": "max(model_service_running_oldest_age_seconds)",
            },
            "s",
            "The time since the creation of a waiting export, and since the start of an attempt.",
        ),
        Panel(
            "Evaluations",
            {
                "waiting": "max(model_service_queue_evaluations)",
                "running": "max(model_service_running_evaluations)",
            },
        ),
        Panel(
            "Oldest evaluation",
            {
                "waiting": "max(model_service_queue_oldest_evaluation_age_seconds)",
                "running": "max(model_service_running_oldest_evaluation_age_seconds)",
            },
            "s",
            "The time since the creation of a waiting evaluation, and since the start of an attempt.",
        ),
        Panel(
            "Oldest waiting package",
            {"age": "max(model_service_queue_oldest_package_build_age_seconds)"},
            "s",
            "The time since a deployment requested an edge package or a container.",
        ),
        Panel(
            "Packages by outcome",
            {"{{type}} {{outcome}}": rate("model_service_package_builds_total", "type, outcome")},
            "ops",
            stacked=True,
        ),
        Panel(
            "Lost leases in an hour",
            {"lost": "sum(increase(model_service_leases_lost_total[1h]))"},
            description="Exports and evaluations whose worker was lost while it ran them.",
        ),
        Panel(
            "Attempts by outcome",
            {"{{outcome}}": rate("model_service_exports_total", "outcome")},
            "ops",
            stacked=True,
        ),
        Panel("Worker hosts that respond", {"{{instance}}": 'up{job="worker"}'}, most=1),
    ],
)
