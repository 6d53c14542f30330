"""`python hack/chart/generate.py [--check]`: writes what the chart takes from models, or tells what is stale."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from optchart.artefacts import artefacts

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Writes, or with `--check` compares; returns 1 when a file is stale."""
    stale = [path for path, text in artefacts(ROOT).items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run hack/chart/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(artefacts(ROOT)[path])
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
