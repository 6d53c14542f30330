"""A folder on disk as a store: the same promises, for one machine or a shared volume."""

from opt_store.folder.store import FolderStore

__all__ = ["FolderStore"]
