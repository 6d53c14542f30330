"""CustomResourceDefinitions made from the models."""
