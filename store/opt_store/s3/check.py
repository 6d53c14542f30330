"""Whether a bucket can be used, found out before work starts."""

import secrets

from opt_store.buffers import new_buffer
from opt_store.errors import BadEndpoint, Corrupt, Unreachable
from opt_store.keys import RESERVED
from opt_store.s3 import objects, read
from opt_store.s3.faults import NOT_S3, DamagedError
from opt_store.s3.retry import again
from opt_store.s3.wire import Wire
from opt_store.s3.xml import read_page


def check_access(wire: Wire, *, write: bool) -> None:
    """See `Store.check_access`.

    The bucket is listed first, because some servers make a missing bucket at the first write to it.
    """
    try:
        again(wire.name(None), wire.settings, lambda _: _list_one(wire))
    except Unreachable as fault:
        raise BadEndpoint(str(fault)) from None
    if write:
        _write_one(wire)


def _list_one(wire: Wire) -> None:
    query = {"list-type": "2", "max-keys": "1", "prefix": wire.prefix}
    try:
        read_page(wire.once("GET", None, query=query).body)
    except DamagedError as fault:
        raise BadEndpoint(f"{wire.name(None)}: {fault}; {NOT_S3.advice}") from None


def _write_one(wire: Wire) -> None:
    key, content = f"{RESERVED}/probe-{secrets.token_hex(8)}", secrets.token_bytes(64)
    objects.put(wire, key, memoryview(content))
    try:
        if read.load(wire, key, None, new_buffer) != content:
            raise Corrupt(f"{wire.name(key)}: other bytes were read than were written")
    finally:
        wire.call("DELETE", key)
