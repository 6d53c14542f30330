"""How one gang divides the model and its gradients."""
