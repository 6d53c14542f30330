"""The documents that cross a process boundary."""
