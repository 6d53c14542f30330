"""A real Kubernetes cluster of several nodes on one machine, without Docker and without mocks."""
