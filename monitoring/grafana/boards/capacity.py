from .panels import API_REQUESTS, DEPLOYMENT, Board, Panel, rate

CAPACITY = Board(
    "Capacity",
    [
        Panel("Processes that respond", {"{{job}}": 'sum by (job) (up{job=~"api|worker|serving"})'}),
        Panel(
            "Requests in progress in the registry",
            {"requests": rate("model_service_request_duration_seconds_sum", where=API_REQUESTS)},
            description="Mean number at a time, until the headers. Each takes a thread (API_THREADS).",
        ),
        Panel(
            "Requests in progress at the endpoints",
            {"requests": rate(f"{DEPLOYMENT}_request_duration_seconds_sum")},
            description="Mean number at a time, from the whole body until the response.",
        ),
        Panel(
            "Inference requests of a serving process",
            {
                "{{instance}}": rate("model_service_inference_requests_total", "instance")
                + " / sum by (instance) (model_service_serving_processes)"
            },
            "reqps",
        ),
        Panel(
            "Running models of a serving process",
            {
                "{{instance}}": rate("model_service_inference_duration_seconds_sum", "instance")
                + " / sum by (instance) (model_service_serving_processes)"
            },
            description="Mean number of requests in a model. A batch counts once for each request.",
        ),
        Panel("Serving processes", {"{{instance}}": "sum by (instance) (model_service_serving_processes)"}),
        Panel(
            "Restarts in an hour",
            {
                "serving processes": "sum(increase(model_service_serving_process_deaths_total[1h]))",
                "model hosts": "sum(increase(model_service_model_host_restarts_total[1h]))",
            },
        ),
        Panel(
            "Busy workers",
            {"busy": "max(model_service_running_jobs) / max(model_service_workers)"},
            "percentunit",
        ),
        Panel(
            "Free space on MongoDB's disk in four days",
            {"free": "min(predict_linear(model_service_mongodb_disk_free_bytes[6h], 4 * 86400))"},
            "bytes",
        ),
        Panel(
            "Duration of a scrape",
            {"{{job}} {{instance}}": 'scrape_duration_seconds{job=~"api|worker|serving"}'},
            "s",
        ),
    ],
)
