"""`python -m opt_cli.fetch_model URI FOLDER`: a checked model directory, for a server that is not ours."""

from __future__ import annotations

import sys
from pathlib import Path

from opt_api.documents.exit_report import EXIT_CODES
from opt_serving.weights_cache import fetch
from opt_store import StoreError, open_store


def main(arguments: list[str] | None = None) -> int:
    """Exit codes as in `EXIT_CODES`."""
    uri, folder = arguments or sys.argv[1:]
    target = Path(folder)
    if target.exists():
        return 0
    try:
        found, _ = fetch(open_store(uri), "", target.parent / "fetched")
    except StoreError as fault:
        print(f"{uri}: {type(fault).__name__}: {fault}", file=sys.stderr)
        return EXIT_CODES["StoreUnavailable"]
    except FileNotFoundError as fault:
        print(f"{uri}: {fault}", file=sys.stderr)
        return EXIT_CODES["BadCheckpoint"]
    found.rename(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
