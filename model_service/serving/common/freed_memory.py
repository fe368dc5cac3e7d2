"""What glibc does with memory that is freed."""

import ctypes

# malloc.h. glibc takes no larger threshold than this one.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 << 20


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next request: the kernel would clear every page anew."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT)
