"""Where data sets, checkpoints and records live: any S3 server, or a volume."""

from __future__ import annotations

from opt_api.base import Model, changes, exactly_one
from opt_api.types import Bucket, Endpoint, KeyPrefix, Label, Subdomain


class S3Storage(Model):
    """An S3 endpoint. Credentials stay in a Secret of the resource's own namespace; nobody but the kubelet reads it."""

    endpoint: Endpoint = changes("attempt")
    """`http(s)://host[:port]`."""
    bucket: Bucket
    prefix: KeyPrefix = ""
    region: Label = changes("attempt", default="us-east-1")
    credentials_secret: Subdomain | None = changes("attempt", default=None)
    """Secret with `accessKeyId`, `secretAccessKey`, optionally `sessionToken`; the pod's own identity when absent."""
    ca_config_map: Subdomain | None = changes("attempt", default=None)
    """ConfigMap with `ca.crt`, for endpoints under a private authority."""


class VolumeStorage(Model):
    """A PersistentVolumeClaim that all pods can mount (ReadWriteMany where there are several hosts)."""

    claim_name: Subdomain
    path: KeyPrefix = ""


class StorageSpec(Model):
    """One place for everything a run leaves behind."""

    s3: S3Storage | None = None
    volume: VolumeStorage | None = None

    rules = (exactly_one("s3", "volume"),)
