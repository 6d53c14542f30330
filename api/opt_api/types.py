"""Bounded scalar types. Every string, list and map of the API has a bound: CEL's cost estimate needs it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

MAX_INT64 = 2**63 - 1
MAX_INT32 = 2**31 - 1


def _integral(value: Any) -> Any:
    """Accept 3.0 where an integer is wanted, as JSON (and the API server) makes no difference."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=MAX_INT32)]
Whole = Annotated[int, BeforeValidator(_integral), Field(ge=0, le=MAX_INT32)]
LongCount = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=10**18)]
LongWhole = Annotated[int, BeforeValidator(_integral), Field(ge=0, le=10**18)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]
NonNegative = Annotated[float, Field(ge=0, le=1e18)]
Positive = Annotated[float, Field(gt=0, le=1e18)]

Label = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A DNS label (RFC 1123)."""
Subdomain = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    ),
]
"""A DNS subdomain (RFC 1123): what Kubernetes allows as an object's name."""
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
"""Name of one of our resources: a DNS label that leaves 23 of 63 characters to the names of its pods and Services."""
LabelKey = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=253,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
"""A qualified name: at most 63 characters after an optional DNS subdomain and a slash. Kubernetes allows 253 for the
subdomain alone, which no pattern can say; we allow 253 in all."""
AnnotationKey = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=253,
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?"
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
"""As a label's key, but for upper case in the prefix, which Kubernetes lets pass in annotations."""
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
Quantity = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=32, pattern=r"^[0-9]+(\.[0-9]{1,3})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
    ),
]
"""A Kubernetes resource quantity, unsigned, as a string."""
SourceUri = Annotated[
    str, StringConstraints(min_length=1, max_length=1024, pattern=r"^(file:///|s3://)[^\x00-\x20\x7f]+$")
]
"""Where bytes are read from: `file:///path` or `s3://bucket/key`."""
Endpoint = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=512, pattern=r"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/?$"
    ),
]
Bucket = Annotated[str, StringConstraints(min_length=3, max_length=63, pattern=r"^[a-z0-9][-a-z0-9.]*[a-z0-9]$")]
KeyPrefix = Annotated[
    str, StringConstraints(max_length=512, pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*)?$")
]
"""A key prefix without leading or trailing slash and without dot segments."""
Image = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=512, pattern=r"^[a-z0-9]([-a-zA-Z0-9._/:]*[a-zA-Z0-9])?(@sha256:[0-9a-f]{64})?$"
    ),
]
Digest = Annotated[str, StringConstraints(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=1024)]
Message = Annotated[str, StringConstraints(max_length=32768)]
ShortText = Annotated[str, StringConstraints(max_length=256)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")
]
