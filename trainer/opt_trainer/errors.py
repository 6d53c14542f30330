"""What ends a worker, by what whoever restarts it does next."""

# ruff: noqa: N818 - named by what happened, as the exit causes are


class Diverged(Exception):
    """The loss or a gradient is not finite; the weights are those before the step, and nothing was saved since."""


class LostPeer(Exception):
    """Workers of the gang are not there."""


class BadHost(Exception):
    """This host cannot do what the layout counts on; another one may."""


class BadSpec(Exception):
    """The plan cannot run here or does not fit; the message has the two numbers that disagree."""
