"""Any S3 server as a store, through the `minio` client and plain S3 calls only."""

from opt_store.s3.store import S3Store

__all__ = ["S3Store"]
