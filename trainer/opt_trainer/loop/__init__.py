"""Steps, one after another: compute, agree, update, save, validate, until the end or until asked to stop."""
