"""The store as a pod sees it: a URL, variables and volumes. The kubelet mounts credentials; we never read them."""

from __future__ import annotations

from opt_api.storage import S3Storage, StorageSpec, VolumeStorage
from opt_operator.core.actions import Object

CREDENTIALS, AUTHORITY, CLAIM = "/etc/opt-store", "/etc/opt-store-ca", "/store"
SECRET_FILES = {"accessKeyId": "AWS_ACCESS_KEY_ID", "secretAccessKey": "AWS_SECRET_ACCESS_KEY"}
TOKEN = {"sessionToken": "AWS_SESSION_TOKEN"}


def store_url(storage: StorageSpec) -> str:
    """What `opt_store.open_store` takes."""
    if storage.s3 is not None:
        return "s3://" + "/".join(part for part in (storage.s3.bucket, storage.s3.prefix) if part)
    assert storage.volume is not None
    return "file://" + "/".join(part for part in (CLAIM, storage.volume.path) if part)


def store_env(storage: StorageSpec | None) -> tuple[tuple[str, str], ...]:
    """Variables of every program that uses the store."""
    if storage is None or storage.s3 is None:
        return ()
    s3 = storage.s3
    found = [("AWS_ENDPOINT_URL", s3.endpoint.rstrip("/")), ("AWS_REGION", s3.region)]
    if s3.credentials_secret:
        found.append(("OPT_STORE_CREDENTIALS_DIR", CREDENTIALS))
    if s3.ca_config_map:
        found.append(("AWS_CA_BUNDLE", f"{AUTHORITY}/ca.crt"))
    return tuple(found)


def store_volumes(storage: StorageSpec | None) -> list[Object]:
    """Volumes of the store."""
    if storage is None:
        return []
    return _s3_volumes(storage.s3) if storage.s3 else _claim(storage.volume)


def store_mounts(storage: StorageSpec | None) -> list[Object]:
    """Where they are mounted."""
    paths = {"store-credentials": CREDENTIALS, "store-ca": AUTHORITY, "store": CLAIM}
    return [
        {"name": volume["name"], "mountPath": paths[volume["name"]], "readOnly": volume["name"] != "store"}
        for volume in store_volumes(storage)
    ]


def _s3_volumes(s3: S3Storage) -> list[Object]:
    found: list[Object] = []
    if s3.credentials_secret:
        found.append({"name": "store-credentials", "projected": {"sources": _secret(s3.credentials_secret)}})
    if s3.ca_config_map:
        found.append({"name": "store-ca", "configMap": {"name": s3.ca_config_map}})
    return found


def _secret(name: str) -> list[Object]:
    """The two keys must be there; the session token may."""
    items, token = ([{"key": key, "path": path} for key, path in keys.items()] for keys in (SECRET_FILES, TOKEN))
    return [
        {"secret": {"name": name, "items": items}},
        {"secret": {"name": name, "items": token, "optional": True}},
    ]


def _claim(volume: VolumeStorage | None) -> list[Object]:
    return [{"name": "store", "persistentVolumeClaim": {"claimName": volume.claim_name}}] if volume else []
