"""The difference between the clock of a server and the clock of this machine."""

from model_service.doctor.findings import Finding, error, ok, warning

_TOLERATED_S = 2.0
# The shortest session (SESSION_S): with a larger difference, a session may have expired when it is opened.
_WRONG_S = 60.0


def judge(check: str, server: str, ahead_s: float) -> Finding:
    """``ahead_s``: how far the server's clock is ahead of this machine's."""
    if abs(ahead_s) <= _TOLERATED_S:
        return ok(check, f"the clocks of {server} and this machine differ by less than {_TOLERATED_S:g} s")
    where = "ahead of" if ahead_s > 0 else "behind"
    found = f"the clock of {server} is {abs(ahead_s):.0f} s {where} the clock of this machine"
    advice = "Synchronise both with NTP (chrony or systemd-timesyncd)"
    if abs(ahead_s) > _WRONG_S:
        return error(check, f"{found}: sessions and signed URLs may be rejected. {advice}")
    return warning(check, f"{found}. {advice}")
