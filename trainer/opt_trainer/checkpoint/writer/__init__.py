"""The writer: a process without torch that takes staged images to the store."""
