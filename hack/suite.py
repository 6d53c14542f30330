#!/usr/bin/env python3
"""Runs the ordinary suite as two pytest processes side by side: tests that compute, and tests that mostly wait.

Most tests of servers, clusters and stores wait for programs to start, answer or die, and leave the processors idle; the
trainer's tests keep them busy. What a first run has to build is built before both. The second half is printed when it
has ended; the last two lines say how each half went. Usage: hack/suite.py [PYTEST OPTION...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
COMPUTE = ("cli", "dataprep", "faults", "model", "plan", "runtime", "trainer")
WAIT = ("api", "charts", "cluster", "gpu", "operator", "quality", "security", "serving", "store")
APART = ("data", "golden", "support")
"""Folders of `tests/` without tests."""
SELECTED = ("-m", "not long and not gpu")
NO_TESTS = 5
"""pytest's exit code where nothing was selected (`pytest.ExitCode`)."""
WORDS = {0: "passed", NO_TESTS: "nothing selected"}


def main(options: Sequence[str]) -> int:
    """Exit code: 0 when both halves passed."""
    refuse_unknown({path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith("__")})
    subprocess.run([sys.executable, ROOT / "hack" / "cluster" / "cluster.py", "build"], check=False)
    with tempfile.TemporaryFile() as later:
        waiting = subprocess.Popen(command(WAIT, options), cwd=ROOT, stdout=later, stderr=subprocess.STDOUT)
        try:
            codes = {"compute": subprocess.run(command(COMPUTE, options), cwd=ROOT, check=False).returncode}
            codes["wait"] = waiting.wait()
        finally:
            waiting.terminate()  # only where this process was interrupted
            waiting.wait()
        later.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(later.read())
    for half, code in codes.items():
        print(f"{half}: {WORDS.get(code, f'FAILED, exit code {code}')}")
    return verdict(codes)


def refuse_unknown(found: set[str]) -> None:
    """No folder of tests is forgotten.

    Raises:
        SystemExit: One is in no half.
    """
    if unknown := found - {*COMPUTE, *WAIT, *APART}:
        sys.exit(f"hack/suite.py: tests/{', tests/'.join(sorted(unknown))} must stand in COMPUTE, WAIT or APART")


def command(folders: Sequence[str], options: Sequence[str]) -> list[str]:
    """One half's pytest, with a cache of its own."""
    paths = [str(TESTS / folder) for folder in folders]
    cache = f"cache_dir=.pytest_cache/{folders[0]}"
    program = str(Path(sys.executable).with_name("pytest"))
    return [program, *SELECTED, "-o", cache, *options, *paths]


def verdict(codes: Mapping[str, int]) -> int:
    """The first failure's code; a half in which the options select nothing counts as passed if the other ran."""
    bad = [code for code in codes.values() if code not in (0, NO_TESTS)]
    return bad[0] if bad else min(codes.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
