"""The engine's own loops for the processor, in C++, compiled for the machine they run on."""
