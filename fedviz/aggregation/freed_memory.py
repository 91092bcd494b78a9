"""What the C library does with memory that this process gives back."""

from __future__ import annotations

import ctypes
import functools

__all__ = ["keep_freed_memory"]

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1

# What glibc comes to by itself once a block of 32 MB has been freed.
_LARGEST_BLOCK, _LARGEST_REST = 32 << 20, 64 << 20


@functools.cache
def keep_freed_memory() -> None:
    """Use memory again that was freed, up to 64 MB, in place of new pages each time.

    gRPC and protobuf make five copies of each result that arrives, and each page of a new block is
    a fault: 16 MB took 48 ms to arrive, and 27 ms so (medians of 60, in turns). Where the C library
    is not glibc nothing happens.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        set_option(_TRIM_THRESHOLD, _LARGEST_REST)
