"""Tokens: the vocabulary, learned or given; a fast encoder; and the reference that it must agree with."""
