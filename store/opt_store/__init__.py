"""The object store: plain S3, and a folder on disk, behind the same few calls."""

from opt_store.buffers import new_buffer
from opt_store.digest import Buffer, digest_of, digest_of_file
from opt_store.errors import (
    AccessDenied,
    BadEndpoint,
    BadKey,
    ClockSkew,
    Corrupt,
    ExpiredCredentials,
    NotFound,
    PreconditionFailed,
    StoreError,
    StoreFull,
    Unavailable,
)
from opt_store.interface import ObjectInfo, Progress, Room, Source, Store
from opt_store.opening import SCHEMES, open_object, open_store
from opt_store.parallel import in_order
from opt_store.publish import commit, stage, sweep
from opt_store.settings import S3Credentials, S3Settings, StoreSettings

__all__ = [
    "SCHEMES",
    "AccessDenied",
    "BadEndpoint",
    "BadKey",
    "Buffer",
    "ClockSkew",
    "Corrupt",
    "ExpiredCredentials",
    "NotFound",
    "ObjectInfo",
    "PreconditionFailed",
    "Progress",
    "Room",
    "S3Credentials",
    "S3Settings",
    "Source",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreSettings",
    "Unavailable",
    "commit",
    "digest_of",
    "digest_of_file",
    "in_order",
    "new_buffer",
    "open_object",
    "open_store",
    "stage",
    "sweep",
]
