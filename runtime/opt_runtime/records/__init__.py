"""What a run leaves behind of its life: the logbook for people, the journal that a new coordinator is restored from."""
