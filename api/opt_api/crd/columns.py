"""What `kubectl get` prints: fields that the operator writes, none of them guessed from the last event."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One printer column; those of priority 1 appear with `-o wide`."""

    name: str
    type: str
    path: str
    description: str
    priority: int = 0


AGE = Column("Age", "date", ".metadata.creationTimestamp", "Time since the resource was made.")

TRAINING = (
    Column("Phase", "string", ".status.phase", "What the training is doing."),
    Column("Step", "integer", ".status.step", "Optimiser steps done."),
    Column("Loss", "string", ".status.loss", "Training loss at that step."),
    Column("Nodes", "string", ".status.nodes.summary", "Hosts ready out of hosts wanted."),
    Column("Spares", "integer", ".status.spares", "Checked hosts held ready."),
    Column("Restarts", "integer", ".status.restarts", "Attempts after the first."),
    Column("Checkpoint", "date", ".status.checkpoint.time", "Time since the newest Verified checkpoint."),
    Column("ETTR", "string", ".status.ettr", "Productive time over wall time."),
    AGE,
    Column("Total", "integer", ".status.totalSteps", "Optimiser steps of the whole run.", 1),
    Column("Saved", "integer", ".status.checkpoint.step", "Step of the newest Verified checkpoint.", 1),
    Column("Tokens/s", "integer", ".status.tokensPerSecond", "Speed of the gang.", 1),
    Column("ETA", "integer", ".status.etaSeconds", "Seconds to the last step at this speed.", 1),
)
SERVE = (
    Column("Phase", "string", ".status.phase", "What the served model is doing."),
    Column("Ready", "integer", ".status.readyReplicas", "Replicas that answer."),
    Column("Replicas", "integer", ".status.replicas", "Replicas there are."),
    Column("Step", "integer", ".status.served.step", "Step of the checkpoint being served."),
    Column("Checkpoint", "date", ".status.served.time", "Time since that checkpoint was saved."),
    Column("Model", "string", ".status.modelName", "Name of the model in the API."),
    Column("Address", "string", ".status.address", "URL inside the cluster."),
    AGE,
    Column("Candidate", "integer", ".status.candidate.step", "Step of the checkpoint being rolled to.", 1),
    Column("In-flight", "integer", ".status.requestsInFlight", "Requests being answered.", 1),
)
COLUMNS = {"OPTTraining": TRAINING, "OPTServe": SERVE}
