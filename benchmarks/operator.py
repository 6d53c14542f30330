"""The operator at work: many trainings, many lost nodes, a lost leader; and a lost node beside JobSet's controller.

    python benchmarks/operator.py --json                         # all, about 80 minutes
    python benchmarks/operator.py --json --only fleet --quick    # 100 nodes and trainings instead of 1,000

`fleet`: a real control plane (API server, etcd, controllers, scheduler), nodes and pods by KWOK, the real operator as a
process beside them; coordinators are one program that answers at the address of every coordinator. `lost-node`: real
nodes, real pods and real steps, see operator_losses.py.
"""

import sys

if __name__ == "operator":  # a benchmark's folder comes first on its path, and everything needs the library's module
    from importlib.machinery import PathFinder

    here = __file__.rpartition("/")[0]
    found = PathFinder.find_spec("operator", [path for path in sys.path if path and path != here])
    assert found is not None
    assert found.loader is not None
    found.loader.exec_module(sys.modules["operator"])


def main() -> None:
    """Run it."""
    from common import ROOT, run

    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "hack" / "cluster")]
    from operator_fleet import fleet, memory
    from operator_losses import lost_node

    run("operator", {"fleet": fleet, "memory": memory, "lost-node": lost_node})


if __name__ == "__main__":
    main()
