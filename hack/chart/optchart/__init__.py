"""Makes the generated files of `charts/opt-operator`, and docs/alerts.md; run `python hack/chart/generate.py`."""
