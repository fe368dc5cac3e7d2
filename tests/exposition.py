"""Reading Prometheus's text format, as the ``/metrics`` routes answer it."""


def samples(text: str) -> dict[str, float]:
    r"""Series, as the text has it → value.

    A line ends with ``\n`` alone: a label may hold what :meth:`str.splitlines` takes for an end (U+2028).
    """
    lines = (line for line in text.split("\n") if line and not line.startswith("#"))
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}
