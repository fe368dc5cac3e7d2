"""Configure how glibc treats freed memory."""

import ctypes

# From malloc.h. This is the largest threshold that glibc accepts.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 << 20


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next request: the kernel would clear every page again."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT)
