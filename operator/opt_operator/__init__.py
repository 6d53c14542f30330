"""The Kubernetes operator: a pure core and a thin kopf shell."""
