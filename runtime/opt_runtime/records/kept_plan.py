"""The plan of a run in its store, where everything that reads a finished run finds it."""

from __future__ import annotations

from opt_api.documents.keys import plan_key
from opt_api.documents.plan import Plan
from opt_store import NotFound, PreconditionFailed, Store


def keep_plan(store: Store, plan: Plan) -> Plan:
    """The plan that the run was begun with: the one in the store, or this one, which is then stored.

    Raises:
        opt_store.StoreError: The store does not answer, or refuses.
    """
    key = plan_key(plan.name)
    try:
        return Plan.from_bytes(store.get(key))
    except NotFound:
        pass
    try:
        store.put(key, plan.to_bytes(), if_absent=True)
    except PreconditionFailed:
        return Plan.from_bytes(store.get(key))  # somebody else began it meanwhile
    return plan
