"""What one gang of workers does between a start and a stop."""
