"""`python -m opt_api.generate [--check] [--root FOLDER]`: write the generated files, or say which are stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opt_api.generate.artefacts import artefacts


def main(arguments: list[str] | None = None) -> int:
    """Write, or with `--check` compare; returns the exit code, 1 when a file is stale."""
    parser = argparse.ArgumentParser(prog="python -m opt_api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository (default: here)")
    options = parser.parse_args(arguments)
    stale = [path for path, text in artefacts().items() if _read(options.root / path) != text]
    if options.check:
        for path in stale:
            sys.stderr.write(f"{path} is stale; run `make generate`\n")
        return int(bool(stale))
    for path in stale:
        _write(options.root / path, artefacts()[path])
    return 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    sys.exit(main())
