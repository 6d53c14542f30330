"""Takes a cluster down when the process it belongs to is gone, however that ended (SIGKILL included).

The machines watch the owner too and end by themselves; this program removes what only an outsider can: control
groups, the link, the folder. It is a session of its own, so that a signal to the owner's group spares it. If it is
killed as well, the next `up` or `down` on this machine does its work.
"""

import select
import sys

from optcluster.cluster import Cluster
from optcluster.errors import ClusterError
from optcluster.lifecycle import down


def main() -> None:
    """Arguments: the cluster's name, and the owner's pidfd."""
    name, owner = sys.argv[1], int(sys.argv[2])
    select.select([owner], [], [])
    try:
        down(Cluster.load(name))
    except ClusterError:
        return  # it has been taken down already


if __name__ == "__main__":
    main()
