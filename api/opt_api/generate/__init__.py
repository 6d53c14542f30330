"""Files made from the models: CRDs, JSON schemas and reference pages."""
