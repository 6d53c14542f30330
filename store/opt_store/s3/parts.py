"""How an object is cut into parts."""

MAX_PARTS = 10_000
"""Amazon S3 User Guide, "multipart upload limits"."""
_MIB = 1 << 20


def part_size(size: int, wanted: int) -> int:
    """Return the bytes of a part: `wanted`, or more where the object would have too many."""
    least = -(-size // MAX_PARTS)
    return max(wanted, -(-least // _MIB) * _MIB)


def ranges(offset: int, length: int, part_bytes: int) -> list[tuple[int, int]]:
    """Cut bytes into (offset, length) of at most `part_bytes` each."""
    end = offset + length
    return [(start, min(part_bytes, end - start)) for start in range(offset, end, part_bytes)]
