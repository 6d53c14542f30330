"""What can go wrong with the store, by cause: a caller acts on the class, a person on the message."""

# ruff: noqa: N818 - they are caught by what happened: NotFound, PreconditionFailed, as in the S3 protocol


class StoreError(Exception):
    """Base of every error of this package.

    Attributes:
        transient: Whether the same call may succeed later without anyone changing anything.
    """

    transient = False


class BadKey(StoreError):
    """The key cannot name an object, or another object stands in its way."""


class NotFound(StoreError):
    """No object has this key."""


class PreconditionFailed(StoreError):
    """A conditional put found another object, or none, where the caller expected otherwise."""


class AccessDenied(StoreError):
    """The credentials, or the file permissions, do not allow the call."""


class ExpiredCredentials(AccessDenied):
    """The credentials were good once and have run out."""


class ClockSkew(AccessDenied):
    """This machine's clock and the server's differ too far for a signature to count."""


class BadEndpoint(StoreError):
    """Nothing that speaks S3 answers at the endpoint, or the bucket or folder does not exist."""


class StoreFull(StoreError):
    """There is no room, or the quota is used up."""


class Corrupt(StoreError):
    """Bytes were read whose size or digest is not the recorded one; they were thrown away."""


class Unavailable(StoreError):
    """The store did not answer, or answered with a passing fault, more often than the retry budget allows."""

    transient = True


class Unreachable(Unavailable):
    """Nothing answers at the endpoint: no such host, no connection."""
