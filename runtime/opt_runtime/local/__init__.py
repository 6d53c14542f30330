"""A whole cluster on this machine: hosts are process groups, run by the same agents and coordinator as pods."""
