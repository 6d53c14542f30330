"""The engine: stages of tasks, content-addressed commits, workers and the local driver."""
