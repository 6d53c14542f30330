"""The objects of a served model."""
