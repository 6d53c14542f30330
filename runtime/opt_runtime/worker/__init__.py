"""What a worker process is before and around the trainer: a warm parent, a fork, a channel to the agent."""
