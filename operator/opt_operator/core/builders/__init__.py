"""What is wanted of the cluster, as documents: pure builders, one module for each concern."""
