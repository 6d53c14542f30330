"""The imperative half: watching, remembering, writing. Short, and without opinions."""
