"""`optctl`, also `kubectl opt`: one command per file, imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click
import structlog

COMMANDS = {
    "audit": "opt_cli.audit",
    "batch": "opt_cli.batch",
    "checkpoints": "opt_cli.checkpoints",
    "dataprep": "opt_cli.dataprep",
    "export": "opt_cli.export",
    "generate": "opt_cli.generate",
    "logbook": "opt_cli.logbook",
    "mark": "opt_cli.mark",
    "pause": "opt_cli.pause",
    "plan": "opt_cli.plan",
    "report": "opt_cli.report",
    "resume": "opt_cli.resume",
    "run": "opt_cli.run",
    "serve": "opt_cli.serve",
    "set": "opt_cli.set",
    "status": "opt_cli.status",
    "validate": "opt_cli.validate",
    "why": "opt_cli.why",
}
"""Module of each command; the command is the module's attribute of the same name, or `set_` for Python's `set`."""


class Commands(click.Group):
    """A group that imports a command when it is asked for, so that no command needs another's packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(COMMANDS[cmd_name])
        command: click.Command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="opt-operator")
def main() -> None:
    """Take raw text to a served OPT-style language model.

    Exit codes: 0 done, 1 a run failed, 2 bad input.
    """
    structlog.configure(logger_factory=lambda *_: structlog.WriteLogger(sys.stderr))  # what it prints is its answer
