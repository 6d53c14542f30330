"""The stages of a training, each a function from a snapshot to what is to be done now."""
