"""From a URL to a store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from opt_store.errors import BadEndpoint
from opt_store.folder import FolderStore
from opt_store.interface import Store
from opt_store.settings import S3Credentials, S3Settings, StoreSettings


def open_store(
    url: str,
    *,
    s3: S3Settings | None = None,
    credentials: S3Credentials | None = None,
    settings: StoreSettings | None = None,
) -> Store:
    """Open the store at `url`; nothing is contacted yet (see `Store.check_access`).

    Args:
        url: ``file:///absolute/folder`` or ``s3://bucket/prefix``; keys are relative to it.
        s3: Where the server is; None for the environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE).
        credentials: Who is calling; None for the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
            AWS_SESSION_TOKEN, or a folder of files with these names in OPT_STORE_CREDENTIALS_DIR).
        settings: Sizes, time-outs, retries.

    Raises:
        BadEndpoint: The URL is of another kind, or a part of it is missing.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)))
    raise BadEndpoint(f"store URL {url!r}: allowed are 'file:///absolute/folder' and 's3://bucket/prefix'")
