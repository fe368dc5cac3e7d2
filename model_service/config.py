"""The settings: one frozen object, read from the environment and passed to the code that needs it.

Every field is an environment variable with the same name in capitals; docs/configuration.md lists them, and a
test compares the two. A wrong value prevents the start with one line: the variable and the allowed values.
A secret can also be in a file, which the variable with the suffix ``_FILE`` names.
"""

import ipaddress
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_service.config_types import (
    ApiKey,
    ByteLimit,
    DatabaseUrl,
    ExportLimit,
    ExportLimits,
    LogLevel,
    Modules,
    Network,
    Networks,
    OptionalSize,
    Origins,
    Port,
    PublicUrl,
    RateLimit,
    SigningSecret,
    Size,
    StoreName,
    parse_export_limits,
    parse_networks,
    parse_rate,
    split_list,
)
from model_service.sentences import explain
from model_service.states import Tier

# Appears in errors of OpenSSL, and so of all libraries, if the server's certificate is not trusted.
CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one line with its name and the allowed values.

    ``exit_code`` is the exit code of a program that stops because of it. A restart does not help.
    """

    exit_code = 2


class Unreachable(SettingsError):
    """The server that a setting names does not respond. It may later, so a supervisor tries again."""

    exit_code = os.EX_TEMPFAIL


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, allow_inf_nan=False)

    # The registry's HTTP server
    host: str = "127.0.0.1"
    port: Port = 8084
    public_url: PublicUrl | None = None
    api_workers: int = Field(1, ge=1)
    api_threads: int = Field(32, ge=1)
    api_bodies: int = Field(1000, ge=1)
    body_grace_s: float = Field(30, gt=0)
    body_min_rate: Size = 1000
    max_file_size: Size = 500_000_000
    max_page_size: int = Field(100, ge=1, le=10_000)
    download_timeout: float = Field(600, gt=0)
    log_level: LogLevel = "INFO"
    log_format: Literal["json", "text"] | None = None
    mongodb_log_level: LogLevel = "WARNING"

    # Traces; the SDK of OpenTelemetry reads its other variables itself
    otel_exporter_otlp_endpoint: PublicUrl | None = None
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    otel_sdk_disabled: bool = False

    # Access control
    enable_auth: bool = False
    api_key: ApiKey | None = None
    allow_anonymous: bool = False
    signing_secret: SigningSecret | None = None
    session_s: int = Field(3600, ge=60, le=30 * 86_400)
    trusted_proxies: int = Field(0, ge=0, le=10)
    cors_origins: Origins = ""
    rate_limits: Literal["auto", "on", "off"] = "auto"
    rate_limit_default: RateLimit = "1000 per minute"
    rate_limit_read: RateLimit = "3000 per minute"
    rate_limit_poll: RateLimit = "3000 per minute"
    rate_limit_upload: RateLimit = "6000 per minute"
    rate_limit_download: RateLimit = "6000 per minute"
    rate_limit_parts: RateLimit = "6000 per minute"
    rate_limit_bytes: ByteLimit = "500GB per hour"
    rate_limit_login: RateLimit = "10 per minute"
    rate_limit_wrong_keys: RateLimit = "60 per minute"

    # Storage
    mongodb_url: DatabaseUrl | None = None
    mongodb_db: StoreName = "tensorfleet"
    gridfs_bucket: StoreName = "models"
    redis_url: DatabaseUrl | None = None
    model_service_home: Path = Path("~/.local/share/model-service")
    mongodb_cache_gb: float | None = Field(None, ge=0.25)
    cache_dir: Path | None = None
    cache_max_bytes: OptionalSize = 10_000_000_000
    orphan_safety_s: float = Field(86_400, ge=3600)
    upload_expires_s: float = Field(604_800, ge=60)
    disk_warn_free: Size = 5_000_000_000
    disk_min_free: Size = 1_000_000_000
    deleted_keep_days: int = Field(30, ge=0)
    metadata_cache_s: float = Field(2, ge=0, le=60)

    # Jobs
    job_max_attempts: int = Field(3, ge=1)
    job_lease_s: float = Field(8, ge=1)
    export_timeout_s: float = Field(1800, gt=0)
    export_memory: Size = 8_000_000_000
    export_disk: Size = 20_000_000_000
    export_prewarm: bool = True
    worker_metrics_port: Port | None = None
    export_allowed_modules: Modules = ""
    allow_unsafe_checkpoints: bool = False
    tiers_file: Path | None = None
    export_limits: ExportLimits = ""
    default_tier: Tier | None = None

    # Webhooks
    webhook_allowed_networks: Networks = ""
    webhook_timeout_s: float = Field(15, gt=0, le=60)
    webhook_retry_s: float = Field(5, gt=0, le=3600)
    webhook_give_up_s: float = Field(259_200, ge=0)
    webhook_keep_days: int = Field(30, ge=1)
    webhooks_per_user: int = Field(20, ge=1, le=1000)

    # The inference server
    inference_host: str = "127.0.0.1"
    inference_port: Port = 8085
    inference_max_processes: int | None = Field(None, ge=1)
    inference_threads: int | None = Field(None, ge=1)
    inference_url: PublicUrl | None = None
    max_inference_body: Size = 64_000_000
    inference_memory: Size = 8_000_000_000
    inference_tensors: Size = 512_000_000
    inference_shared_host: bool = False
    inference_trusted_namespaces: str = ""

    @model_validator(mode="after")
    def _nobody_gets_in_by_accident(self) -> "Settings":
        if not self.enable_auth and not self.allow_anonymous and not is_loopback(self.host):
            raise ValueError(
                f"HOST={self.host} is reachable from other machines: "
                "set ENABLE_AUTH=true, or ALLOW_ANONYMOUS=true to let anybody in"
            )
        return self

    @property
    def exports_traces(self) -> bool:
        return self.otel_exporter_otlp_endpoint is not None and not self.otel_sdk_disabled

    def logs_as_text(self, fd: int = 2) -> bool:
        """Return whether log lines written to this file descriptor are text: LOG_FORMAT, or on a terminal."""
        return os.isatty(fd) if self.log_format is None else self.log_format == "text"

    @cached_property
    def home(self) -> Path:
        """The absolute path of the data folder."""
        return self.model_service_home.expanduser().resolve()

    @cached_property
    def allowed_origins(self) -> list[str]:
        """Origins of web pages that may call the service from a browser; empty: only the service's own."""
        return split_list(self.cors_origins)

    @cached_property
    def allowed_modules(self) -> list[str]:
        """Packages whose classes may be the architecture of a checkpoint."""
        return split_list(self.export_allowed_modules)

    @cached_property
    def webhook_networks(self) -> list[Network]:
        """Internal networks to which events may be sent."""
        return parse_networks(self.webhook_allowed_networks)

    @cached_property
    def trusted_namespaces(self) -> frozenset[str]:
        """Namespaces whose models of bounded cost the inference server's own process runs (ENABLE_AUTH)."""
        return frozenset(split_list(self.inference_trusted_namespaces))

    @cached_property
    def limits_of_exports(self) -> dict[Tier, ExportLimit]:
        """Export limits by tier, which override the tiers file; a tier that is missing here has no limit."""
        return parse_export_limits(self.export_limits)

    @cached_property
    def limits_rates(self) -> bool:
        """Whether request rates are limited; by default not for a single user on their own machine."""
        if self.rate_limits == "auto":
            return self.enable_auth or not is_loopback(self.host)
        return self.rate_limits == "on"

    @cached_property
    def wrong_key_limit(self) -> tuple[int, float]:
        """RATE_LIMIT_WRONG_KEYS as a number of requests and a period in seconds."""
        return parse_rate(self.rate_limit_wrong_keys)

    @cached_property
    def cache(self) -> Path:
        """The absolute path of the disk cache."""
        return self.cache_dir.expanduser().resolve() if self.cache_dir else self.home / "cache"

    def inference_address(self, registry_url: str) -> str:
        """Return the inference server's URL for clients, without a trailing slash.

        Args:
            registry_url: the registry's URL for the same clients. The inference server has its host if it
                listens on every address and INFERENCE_URL is not set.
        """
        if self.inference_url is not None:
            return self.inference_url
        host = self.inference_host
        if host in WILDCARDS:
            host = urlsplit(registry_url).hostname or "127.0.0.1"
        return http_url(host, self.inference_port)


# The host values with which a server listens on every address of its machine.
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on


def http_url(host: str, port: int) -> str:
    """Return ``http://host:port``, with an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether the name or address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; ``overrides`` take precedence.

    Raises:
        SettingsError: one line with the wrong variable and the allowed values.
    """
    from_files = {
        name: value for name in Settings.model_fields if is_secret(name) and (value := secret_from_file(name))
    }
    try:
        return Settings(**{**from_files, **overrides})
    except ValidationError as exc:
        raise SettingsError("; ".join(explain_setting(error) for error in exc.errors())) from None


def is_secret(name: str) -> bool:
    """Return whether the value of the field ``name`` of the settings must not be shown."""
    return "Secret" in str(Settings.model_fields[name].annotation)


def read_secret(variable: str) -> str | None:
    """Return the content of the file that ``<variable>_FILE`` names, or the variable; None: neither is set.

    Raises:
        SettingsError: the file cannot be read, or is empty.
    """
    return secret_from_file(variable) or os.environ.get(variable)


def secret_from_file(variable: str) -> str | None:
    """Return the content of the file that ``<variable>_FILE`` names. Raises: SettingsError, as above."""
    name = f"{variable.upper()}_FILE"
    file = os.environ.get(name)
    if not file:
        return None
    try:
        content = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise SettingsError(
            f"{name}: {file} cannot be read ({reason}). Create it, readable by {_user()}"
        ) from None
    if not content:
        raise SettingsError(f"{name}: {file} is empty. Write the secret into it")
    return content


def require_api_key(settings: Settings) -> None:
    """Check the settings of a process that authenticates users: the registry's server.

    Raises:
        SettingsError: ENABLE_AUTH is set without API_KEY, so that no client could create the first user.
    """
    if settings.enable_auth and settings.api_key is None:
        raise SettingsError("ENABLE_AUTH=true needs API_KEY, a secret of at least 16 characters")


def require_folder(folder: Path, variable: str) -> None:
    """Create ``folder`` (0700) if it is missing. Raises: SettingsError: impossible, or not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise SettingsError(cannot_create(folder, variable, exc.strerror)) from None
    require_writable(folder, variable)


def require_writable(folder: Path, variable: str) -> None:
    """Raises: SettingsError: this user cannot read from and write to the existing ``folder``."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(
            f"{variable}: this user cannot write to {folder}. {_other_folder(variable)}, or change its owner"
        )


def cannot_create(folder: Path, variable: str, reason: str | None) -> str:
    return f"{variable}: {folder} cannot be created: {reason}. {_other_folder(variable)}"


def _other_folder(variable: str) -> str:
    return f"Set {variable} to a folder that {_user()} can write"


def _user() -> str:
    return f"the user {os.getuid()}" if hasattr(os, "getuid") else "this user"


def explain_setting(error: Any) -> str:
    """Return one line for an error of pydantic: the variable, the value (no secret), and what is allowed."""
    message = explain(error)
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    given = "" if is_secret(name) else f"={error['input']!s}"
    return f"{name.upper()}{given} is not allowed: {message[:1].lower()}{message[1:]}"


def redact_url(url: str) -> str:
    """Return only ``scheme://host:port``, for messages and logs. A password may contain ``/``."""
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest.rpartition("@")[2])[0]
    return f"{scheme}://{host}"
