"""What keeps a training going: agents, coordinator, detection and recovery."""
