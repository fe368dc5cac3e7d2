"""The restricted profile of the Pod Security Standards, for pods of Linux.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = frozenset(
    {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
        *("persistentVolumeClaim", "projected", "secret"),
    }
)
_SECCOMP = frozenset({"RuntimeDefault", "Localhost"})
_SELINUX_TYPES = frozenset(
    {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
_SYSCTLS = frozenset(
    {
        *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
        *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
        *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
        *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    }
)
_HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(pod: Mapping[str, Any]) -> Iterator[str]:
    """What the profile forbids in this pod's specification."""
    context = pod.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes") or []:
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']}"
    yield from (
        f"sysctl {each['name']}" for each in context.get("sysctls") or [] if each["name"] not in _SYSCTLS
    )
    yield from _of_context(context, "pod")
    containers = [
        *(pod.get("containers") or []),
        *(pod.get("initContainers") or []),
        *(pod.get("ephemeralContainers") or []),
    ]
    for container in containers:
        yield from _of_container(container, context)


def _of_container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    own, name = container.get("securityContext") or {}, container["name"]
    effective = {**pod, **own}
    yield from _of_context(own, name)
    if own.get("privileged"):
        yield f"{name}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []) or set(capabilities.get("add") or []) - {
        "NET_BIND_SERVICE"
    }:
        yield f"{name}: capabilities"
    if effective.get("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot"
    if (effective.get("seccompProfile") or {}).get("type") not in _SECCOMP:
        yield f"{name}: seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    if any("hostPort" in port for port in container.get("ports") or []):
        yield f"{name}: hostPort"
    hooks = (container.get("lifecycle") or {}).values()
    for handler in (*(container.get(field) or {} for field in _HANDLERS), *hooks):
        if any((handler.get(kind) or {}).get("host") for kind in ("httpGet", "tcpSocket")):
            yield f"{name}: host of a probe"


def _of_context(context: Mapping[str, Any], where: str) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{where}: runAsUser"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{where}: hostProcess"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") == "Unconfined":
        yield f"{where}: appArmorProfile"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}: seLinuxOptions"
