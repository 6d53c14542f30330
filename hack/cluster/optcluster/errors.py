"""The one error that the tools of this package raise on purpose."""


class ClusterError(Exception):
    """Something the person at the keyboard can act on: the message says what was found and what to do."""
