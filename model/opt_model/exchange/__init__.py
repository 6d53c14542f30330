"""Weights in and out: Hugging Face directories, and the layout that OPT was trained in."""
