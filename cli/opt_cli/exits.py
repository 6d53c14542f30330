"""Exit codes of every command."""

FAILED = 1
"""A run failed, or what was asked for is not there."""
BAD_INPUT = 2
"""A file or an option is wrong."""
