"""What a plan will need and cost, before anything runs: memory, time, energy, spares."""
