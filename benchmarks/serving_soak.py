"""Five minutes of a served model on real nodes at 80 % of what it can do: a roll, a killed pod, a lost node.

    python benchmarks/serving_soak.py --json     # about 15 minutes

Four real nodes: one for the operator and the store, which nothing happens to, three for two replicas and two gateways.
What the pair can do is measured first, with as many clients at once as it has places. Then requests come at random
moments (a Poisson process, seeded) at 80 % of that rate, all of them streams, whatever becomes of those before. A
request is lost when it is not answered with 200, or its stream does not end with `[DONE]`; each counts for the event
before its end. Not counted, but named, are those that went with what died: streams whose replica the gateway says was
lost, and those that were open when the node died, as the gateway of some of them was on it.
"""

import sys


def main() -> None:
    """Run it."""
    from common import ROOT, run

    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "hack" / "cluster")]
    from serving_soak_run import soak

    run("serving_soak", soak)


if __name__ == "__main__":
    main()
