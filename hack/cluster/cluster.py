#!/usr/bin/env python3
"""Starts and stops real Kubernetes clusters on this machine; see docs/cluster.md."""

import sys

from optcluster.cli import main

if __name__ == "__main__":
    sys.exit(main())
