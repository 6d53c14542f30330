"""Programs that only watch start quickly: torch is the warm parent's and the rendezvous's."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "module",
    ["opt_runtime.agent.__main__", "opt_runtime.coordinator.__main__", "opt_runtime.local.cluster", "opt_cli.run"],
)
def test_no_torch_in_agent_coordinator_and_command_line(module: str) -> None:
    code = f"import sys, {module}; print(sorted(m for m in sys.modules if m == 'torch'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
