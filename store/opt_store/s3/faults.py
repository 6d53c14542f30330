"""Which fault of a request means what, and whether trying again can help: one table."""

import re
import ssl
from dataclasses import dataclass

from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3 import exceptions as http

from opt_store import errors
from opt_store.errors import StoreError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a fault is.

    Attributes:
        kind: The error to raise.
        retry: Whether the same request may succeed a moment later.
        advice: What a person can do.
    """

    kind: type[StoreError]
    retry: bool
    advice: str


_PASSING = Verdict(errors.Unavailable, True, "the server is overloaded or failing; look at its log, or slow down")
_BROKEN = Verdict(errors.Unavailable, True, "the connection broke or stalled; look at the network and the server")
_DAMAGED = Verdict(errors.Unavailable, True, "bytes were damaged on their way; look for a faulty network device")
_REFUSED = Verdict(errors.AccessDenied, False, "check the policy of this access key for this bucket and prefix")
_KEY = Verdict(errors.AccessDenied, False, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
_EXPIRED = Verdict(errors.ExpiredCredentials, False, "the temporary credentials have run out; renew them")
_SKEW = Verdict(errors.ClockSkew, False, "set this machine's clock and the server's by NTP")
_BUCKET = Verdict(errors.BadEndpoint, False, "create the bucket, or correct its name in the store URL")
_REGION = Verdict(errors.BadEndpoint, False, "correct the endpoint or the region in the S3 settings")
_FULL = Verdict(errors.StoreFull, False, "free space, or have the quota raised")
_NONE = Verdict(errors.NotFound, False, "there is no such object")
_CONDITION = Verdict(errors.PreconditionFailed, False, "the object there is not the one expected; read it again")
_KEY_NAME = Verdict(errors.BadKey, False, "the server does not allow this key; choose another")
NOT_S3 = Verdict(errors.BadEndpoint, False, "the answer is not S3's; check host, port and http or https")
_TLS = Verdict(errors.BadEndpoint, False, "the server's certificate is not trusted; give its authority as ca_file")
_UNREACHABLE = Verdict(errors.Unreachable, True, "nothing answers at the endpoint; check host, port and network")

BY_CODE: dict[str, Verdict] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "NoSuchUpload"), _NONE),
    **dict.fromkeys(("PreconditionFailed",), _CONDITION),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed"), _REFUSED),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidTokenId"), _KEY),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"), _EXPIRED),
    **dict.fromkeys(("RequestTimeTooSkewed",), _SKEW),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName"), _BUCKET),
    **dict.fromkeys(("PermanentRedirect", "Redirect", "AuthorizationHeaderMalformed"), _REGION),
    **dict.fromkeys(("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"), _FULL),
    **dict.fromkeys(("XMinioAdminBucketQuotaExceeded", "XMinioAdminBucketQuotaDisabled"), _FULL),
    **dict.fromkeys(("KeyTooLongError", "XMinioInvalidObjectName", "XMinioParentIsObject"), _KEY_NAME),
    **dict.fromkeys(("XMinioObjectExistsAsDirectory", "ExistingObjectIsDirectory"), _KEY_NAME),
    **dict.fromkeys(("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"), _DAMAGED),
    **dict.fromkeys(("IncompleteBody", "InvalidDigest"), _DAMAGED),
    **dict.fromkeys(("SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests", "Throttling"), _PASSING),
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "Busy", "RequestTimeout", "OperationAborted"), _PASSING),
    **dict.fromkeys(("XMinioServerNotInitialized", "ServerNotInitialized", "OperationTimedOut"), _PASSING),
    **dict.fromkeys(("ConditionalRequestConflict",), _PASSING),
}
"""By the code of S3's XML error; those that start with XMinio are what a MinIO server answers to plain S3 calls."""

_BY_STATUS: dict[int, Verdict] = {
    **dict.fromkeys((408, 429, 500, 502, 503, 504), _PASSING),
    **dict.fromkeys((401, 403), _REFUSED),
    507: _FULL,
}

_BY_TYPE: tuple[tuple[tuple[type[BaseException], ...], Verdict], ...] = (
    ((ssl.SSLCertVerificationError,), _TLS),
    ((http.NewConnectionError, http.ConnectTimeoutError), _UNREACHABLE),
    ((http.LocationValueError, http.LocationParseError), NOT_S3),
    ((http.HTTPError, OSError), _BROKEN),
)


class DamagedError(OSError):
    """Bytes did not arrive as they were sent; the request is made again."""


def judge(fault: Exception) -> Verdict | None:
    """Return what a fault of the client or of the network means; None if it is no such fault."""
    if isinstance(fault, S3Error):
        if "no space left on device" in (fault.message or ""):  # MinIO says so under the code InternalError
            return _FULL
        return BY_CODE.get(str(fault.code)) or _by_status(fault.response.status)
    if isinstance(fault, InvalidResponseError):
        return _by_status(_status_in(fault))
    if isinstance(fault, ServerError):
        return _by_status(fault.status_code)
    if isinstance(fault, DamagedError):
        return _DAMAGED
    reason = _tls_fault(fault)
    if (
        reason is not None and getattr(reason, "reason", None) == "WRONG_VERSION_NUMBER"
    ):  # HTTPS spoken to a plain HTTP port
        return NOT_S3
    return next((verdict for kinds, verdict in _BY_TYPE if isinstance(reason or fault, kinds)), None)


def describe(fault: Exception) -> str:
    """Return what was found, in a few words; never a header, for a header can hold a token."""
    if isinstance(fault, S3Error):
        return f"{fault.code} ({fault.message or 'no message'}; request id {fault.request_id or 'none'})"
    if isinstance(fault, InvalidResponseError):
        return f"HTTP status {_status_in(fault)} without S3's XML"
    return f"{type(fault).__name__}: {fault}"


def _by_status(status: int) -> Verdict:
    return _BY_STATUS.get(status, NOT_S3)


def _status_in(fault: InvalidResponseError) -> int:
    """The client keeps the status only in the text of this error."""
    found = re.search(r"Response code: (\d+)", str(fault))
    return int(found[1]) if found else 0


def _tls_fault(fault: BaseException) -> ssl.SSLError | None:
    for nested in (fault, *fault.args, fault.__cause__):
        if isinstance(nested, ssl.SSLError):
            return nested
    return None
