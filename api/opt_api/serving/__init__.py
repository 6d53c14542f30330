"""The parts of an OPTServe."""
