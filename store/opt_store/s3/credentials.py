"""Where the keys come from, in a form that never shows them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider

from opt_store.errors import AccessDenied
from opt_store.settings import S3Credentials

_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
DIRECTORY = "OPT_STORE_CREDENTIALS_DIR"


class _Hidden(Credentials):
    """The client's credentials, which as a data class would print themselves into any log that shows variables."""

    def __repr__(self) -> str:
        return "Credentials(***)"


class FileProvider(Provider):
    """Reads a mounted Secret again for every request, so that a rotation needs no restart."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def retrieve(self) -> Credentials:
        """Return the credentials as they are now.

        Raises:
            AccessDenied: A file is missing.
        """
        return _hidden(self._read, f"folder {self._directory}")

    def _read(self, name: str) -> str | None:
        path = self._directory / name
        return path.read_text().strip() if path.is_file() else None


class FixedProvider(Provider):
    """Gives what it was given."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def retrieve(self) -> Credentials:
        """Return the credentials."""
        return self._credentials


def provider_of(credentials: S3Credentials | None, environment: Mapping[str, str] = os.environ) -> Provider:
    """Return what gives the client its keys; without `credentials`, from the environment.

    Raises:
        AccessDenied: There are none.
    """
    if credentials is None and environment.get(DIRECTORY):
        credentials = S3Credentials(directory=Path(environment[DIRECTORY]))
    if credentials is None:
        return FixedProvider(_hidden(environment.get, "the environment"))
    if credentials.directory is not None:
        return FileProvider(credentials.directory)
    fields = (credentials.access_key, credentials.secret_key, credentials.session_token)
    given = {name: field.get_secret_value() for name, field in zip(_NAMES, fields, strict=True) if field}
    return FixedProvider(_hidden(given.get, "the settings"))


def _hidden(look_up: Callable[[str], str | None], where: str) -> Credentials:
    access_key, secret_key, token = (look_up(name) for name in _NAMES)
    if not access_key or not secret_key:
        missing = _NAMES[0] if not access_key else _NAMES[1]
        raise AccessDenied(
            f"S3 credentials: {missing} is missing or empty in {where}; set {_NAMES[0]} and {_NAMES[1]}, "
            f"or mount a Secret with these keys and name its folder in {DIRECTORY}"
        )
    return _Hidden(access_key, secret_key, token or None)
