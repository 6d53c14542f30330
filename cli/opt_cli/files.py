"""Resources from files and standard input, for every command that takes `FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from opt_api.parsing import Foreign, parse_text
from opt_api.problems import Problem, Problems
from opt_api.resources import Resource

STDIN = "-"


def load(name: str) -> tuple[Resource | Foreign, ...]:
    """All documents of a file, or of standard input for `-`.

    Raises:
        Problems: every problem of the file, its absence included.
    """
    return parse_text(_text(name), name)


def _text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        raise Problems(
            [Problem("", f"a file that cannot be read: {reason}", "a YAML or JSON file", source=name)]
        ) from None
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at offset {error.start}"
        raise _unreadable(name, found, "text in UTF-8") from None


def _unreadable(name: str, found: str, allowed: str) -> Problems:
    return Problems([Problem("", found, allowed, source=name)])
