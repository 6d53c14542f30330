"""OPT's recipe: schedule, precision, gradient norm, clipping, AdamW, and what may change while running."""
