"""The list of commands can be had in every image, whatever extras it was built without."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest

pytestmark = pytest.mark.integration

HELP = """
import sys
from opt_cli.main import main
try:
    main(["--help"])
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def modules_of_extras() -> set[str]:
    """Top-level modules of the packages that only an extra of ours names."""
    named = {re.split(r"[^\w.-]", line)[0].lower() for line in requires("opt-operator") or () if "extra ==" in line}
    return {module for module, owners in packages_distributions().items() if named & {one.lower() for one in owners}}


def test_the_list_of_commands_needs_no_extras_package() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage:")
    assert {"torch", "kopf", "fastapi", "pyarrow"} <= modules_of_extras()
    assert set(done.stderr.split()) & modules_of_extras() == set()
