"""The pure core: what a gang's state means and what to do about it. No clock, no file, no socket, no process."""
