"""Running the model: weights in the number format wanted, keys and values in pages, one pass after another."""
