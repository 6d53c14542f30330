"""How a store is reached and how patient it is."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, SecretStr, model_validator

MIB = 1 << 20
MIN_PART_BYTES = 5 * MIB
"""S3's smallest part other than the last (Amazon S3 User Guide, "multipart upload limits")."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSettings(_Frozen):
    """Sizes, time-outs and retries; the defaults suit a cluster's network.

    Attributes:
        part_bytes: Size of one part of a large transfer; each part is retried and resumed by itself.
        parallel: Parts in flight at once, for one call.
        connect_timeout_s: Seconds for a connection to come up.
        stall_timeout_s: Seconds without progress before a request is given up and tried again.
        part_timeout_s: Seconds that receiving one part may take in all, however slowly it drips.
        attempts: Times a request is made in all before its fault is raised.
        backoff_s: Longest wait before the second attempt, in seconds; doubles each time, the wait is drawn at random.
        backoff_limit_s: Upper end of that doubling.
    """

    part_bytes: int = Field(default=32 * MIB, ge=MIN_PART_BYTES)
    parallel: PositiveInt = 4
    connect_timeout_s: PositiveFloat = 5.0
    stall_timeout_s: PositiveFloat = 20.0
    part_timeout_s: PositiveFloat = 300.0
    attempts: PositiveInt = 6
    backoff_s: PositiveFloat = 0.2
    backoff_limit_s: PositiveFloat = 10.0


class S3Settings(_Frozen):
    """Where the S3 server is.

    Attributes:
        endpoint: ``http(s)://host[:port]``.
        region: Name that the server expects in signatures.
        ca_file: PEM file of the authority that signed the server's certificate; None for the system's.
        path_style: Bucket in the path (any server) and not in the host name (Amazon).
    """

    endpoint: str
    region: str = "us-east-1"
    ca_file: Path | None = None
    path_style: bool = True


class S3Credentials(_Frozen):
    """Who is calling: given here, or in files that are read again when they change (a mounted Secret).

    Attributes:
        access_key: Together with secret_key and, for temporary credentials, session_token.
        secret_key: Never shown.
        session_token: Never shown.
        directory: Folder with files named AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if any, AWS_SESSION_TOKEN.
    """

    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    directory: Path | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        pair = (self.access_key is not None) + (self.secret_key is not None)
        if pair == 1 or (pair == 2) == (self.directory is not None):
            raise ValueError("give either access_key and secret_key, or directory")
        return self
