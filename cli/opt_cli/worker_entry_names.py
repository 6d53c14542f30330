"""What `optctl run` and the workers it starts call the same things; no torch here."""

ENTRY = "opt_cli.worker_entry:run"
PLAN, STORE, DATASET, FAULTS = "OPT_RUN_PLAN", "OPT_RUN_STORE", "OPT_RUN_DATASET", "OPT_RUN_FAULTS"
"""Variables that hosts get: a file with the plan, the store's URL, the data set's manifest, and, where faults were
ordered, the folder that they lie in."""
DISK = "OPT_RUN_DISK"
"""And the bytes of local disk that one may fill, where there is a bound."""
