"""What a field allows, in words."""

from __future__ import annotations

from opt_api.shapes import Shape

_NOUNS = {
    "object": "a mapping",
    "map": "a mapping",
    "list": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "any": "any JSON",
}


def allowed_text(shape: Shape) -> str:
    """`a whole number from 1 to 64`, `one of cuda, cpu`, `text of 1 to 63 characters matching ...`."""
    if shape.enum:
        names = ", ".join(str(value) for value in shape.enum)
        return f"one of {names}" if len(shape.enum) > 1 else names
    if shape.format == "date-time":
        return "a time such as 2026-01-31T12:00:00Z"
    return (
        _NOUNS[shape.kind] + _bounds(shape) + _lengths(shape) + (f" matching {shape.pattern}" if shape.pattern else "")
    )


def _bounds(shape: Shape) -> str:
    low, high = shape.minimum, shape.maximum
    words = ""
    if low is not None:
        words += f" above {low}" if shape.exclusive_minimum else f" from {low}"
    if high is not None:
        words += f" below {high}" if shape.exclusive_maximum else f" to {high}" if low is not None else f" up to {high}"
    return words.replace(f"above {low} to", f"above {low} and up to")


def _lengths(shape: Shape) -> str:
    unit = {"string": "characters", "list": "entries"}.get(shape.kind, "keys")
    match shape.min_length, shape.max_length:
        case (None | 0, None):
            return ""
        case (None | 0, most):
            return f" of at most {most} {unit}"
        case (least, None):
            return f" of at least {least} {unit}"
        case (least, most):
            return f" of {least} to {most} {unit}"
    raise AssertionError(shape)
