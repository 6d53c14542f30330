"""What a run says of itself: numbers per step, heartbeats, metrics, a line on the terminal."""
