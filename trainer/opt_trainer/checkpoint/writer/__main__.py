"""`python -m opt_trainer.checkpoint.writer`: jobs on standard input, outcomes on standard output.

It ignores the terminal's and the supervisor's polite signals: its end is the end of its input, so that a trainer that
was told to stop, or was killed, leaves a finished save and not half of one.
"""

from __future__ import annotations

import os
import signal
import sys

from opt_trainer.checkpoint.job import Outcome, SaveJob, WriterConfig
from opt_trainer.checkpoint.writer.work import Writer

_NICENESS = 5
"""Training comes first where the two share processors: at 5 the writer still gets a quarter of a core that is busy."""


def main() -> None:
    """Serve jobs until the input ends."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    os.nice(_NICENESS)
    config = WriterConfig.model_validate_json(sys.stdin.buffer.readline())
    writer = Writer(config, config.store.open(), parent=os.getppid(), report=_report)
    writer.begin()
    for line in sys.stdin.buffer:
        writer.save(SaveJob.model_validate_json(line))


def _report(outcome: Outcome) -> None:
    try:
        sys.stdout.buffer.write(outcome.model_dump_json().encode() + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        pass  # the trainer is gone; what was begun is finished all the same


if __name__ == "__main__":
    main()
