"""What can go wrong with checkpoints, by what the caller does next."""

# ruff: noqa: N818 - named by what happened, like the errors of the store


class CheckpointError(Exception):
    """Base of every error of this package."""


class SaveFailed(CheckpointError):
    """A save did not become durable; the run may go on, the checkpoint before it is still the newest."""


class Fenced(SaveFailed):
    """A newer attempt of the run has begun; this one must stop."""


class BadCheckpoint(CheckpointError):
    """A checkpoint's bytes are not what they were; it is to be marked Poisoned."""


class NoGoodCheckpoint(CheckpointError):
    """The run has checkpoints, and none of them can be loaded."""


class WrongCheckpoint(CheckpointError):
    """The checkpoint is sound, but of another model or layout of names than the one it is loaded into."""
