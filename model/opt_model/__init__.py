"""OPT itself: modules, weight layouts and the exchange with Hugging Face.

Import what is wanted from its own module: those that read and map weights need no torch, and importing torch takes a
server a second and 200 MiB.
"""
