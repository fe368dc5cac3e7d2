from .panels import Board, Panel, rate

STORAGE = Board(
    "Storage",
    [
        Panel("Stored bytes", {"stored": "max(storage_usage_bytes)"}, "bytes", single=True),
        Panel(
            "MongoDB accepts writes",
            {"accepts": "min(model_service_accepts_writes)"},
            description="0: requests that store data get 507 (disk_full).",
            single=True,
        ),
        Panel(
            "Age of the last backup",
            {"age": "time() - max(model_service_last_backup_timestamp_seconds)"},
            "s",
            single=True,
        ),
        Panel(
            "Problems of the last verification",
            {"problems": "max(model_service_last_verify_problems)"},
            single=True,
        ),
        Panel(
            "Free space",
            {
                name: f"min(model_service_{name}_disk_free_bytes)"
                for name in ("mongodb", "cache", "work", "temp")
            }
            | {"DISK_WARN_FREE": "max(model_service_disk_warn_free_bytes)"},
            "bytes",
        ),
        Panel(
            "Growth of the stored bytes in a day",
            {"growth": "max(deriv(storage_usage_bytes[1h])) * 86400"},
            "bytes",
        ),
        Panel("Stored bytes over time", {"stored": "max(storage_usage_bytes)"}, "bytes"),
        Panel(
            "Lookups in the disk cache",
            {"{{outcome}}": rate("model_service_file_cache_requests_total", "outcome")},
            "ops",
            stacked=True,
        ),
        Panel(
            "Bytes of the disk cache",
            {"{{what}}": rate("model_service_file_cache_bytes_total", "what")},
            "Bps",
        ),
        Panel(
            "Time since the last sweep",
            {"age": "time() - max(model_service_last_sweep_timestamp_seconds)"},
            "s",
        ),
    ],
)
