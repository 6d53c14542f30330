"""The parts of an OPTTraining."""
