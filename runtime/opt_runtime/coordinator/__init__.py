"""The coordinator of one training: it gathers, decides purely and applies. Restartable at any moment from the store."""
