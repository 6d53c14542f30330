"""Checkpoints: saved by a process of their own, sharded, checked chunk by chunk, loaded to any layout."""
