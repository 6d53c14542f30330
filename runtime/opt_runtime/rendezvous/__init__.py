"""The rendezvous: torch's TCPStore in a process of its own, on no trainer host, so that none can take it down.

Workers need it while they find each other; a gang that has formed goes on without it.
"""
