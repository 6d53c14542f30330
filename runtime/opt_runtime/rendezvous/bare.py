"""torch's TCPStore without the rest of torch.

A lost coordinator's successor brings a new rendezvous along, and the gang cannot meet before it serves: importing all
of torch took it 3.7 s of processor time, its compiled part alone takes 0.6 s (torch 2.13, 2 cores).
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any


def tcp_store_class() -> Any:
    """The class; where torch's insides are not as they were in 2.13, by importing all of it.

    Only for a process that uses nothing else of torch: its packages stay without their contents.
    """
    try:
        return _from_compiled_part()
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
            del sys.modules[name]
        return import_module("torch.distributed").TCPStore


def _from_compiled_part() -> Any:
    """`torch._C` is one library; the packages that it asks for are there by name, and empty.

    Raises:
        ImportError, AttributeError: It asks for more than their names.
    """
    found = PathFinder.find_spec("torch")
    if found is None or found.submodule_search_locations is None:
        raise ImportError("torch is not installed")
    package, distributed = ModuleType("torch"), ModuleType("torch.distributed")
    package.__path__ = list(found.submodule_search_locations)
    package.__file__ = found.origin
    package.__dict__["distributed"] = distributed
    sys.modules |= {"torch": package, "torch.distributed": distributed}
    compiled: Any = import_module("torch._C")
    compiled._c10d_init()
    return sys.modules["torch._C._distributed_c10d"].TCPStore
