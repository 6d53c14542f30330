"""Compiled loops for the processor: those that came with the image, those made before, else the compiler's.

One library for each level of the instruction set, named by a digest of the sources and the flags, so that a
stale one is never loaded. `python -m opt_model.native MODULE...` makes every level of what the modules call `SOURCES`,
for an image.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile

_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno")
_SHARED = Path(__file__).parent
"""Where the header is that all may include."""
_AVX512, _TILES = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}), {"amx_tile", "amx_bf16", "amx_int8"}
_LEVELS: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "amx": (
        _AVX512 | {"avx512_vnni", "avx512_bf16"} | _TILES,
        ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16", "-mprfchw", "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
    ),
    "avx512-vnni": (_AVX512 | {"avx512_vnni"}, ("-march=x86-64-v4", "-mavx512vnni")),
    "avx512": (_AVX512, ("-march=x86-64-v4",)),
    "avx2": (frozenset({"avx2", "fma", "f16c"}), ("-march=x86-64-v3",)),
    "plain": (frozenset(), ()),
}
"""Level: what the processor must have, and what the compiler is told. The best comes first."""


@dataclass(frozen=True, slots=True)
class Sources:
    """C++ that becomes one library.

    Attributes:
        name: Of the library, without level and digest.
        folder: Where the files are.
        files: The first is compiled, and includes the others, and may include `native.h` beside this module.
        flags: For the compiler, besides those of every library.
        abi: Version of the calls; the library's `NAME_abi` answers it.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    flags: tuple[str, ...] = ()
    abi: int = 1

    @property
    def built(self) -> Path:
        """Where an image has what was compiled of them."""
        return self.folder / "built"

    def library_name(self, level: str) -> str:
        """File name of the library of a level."""
        running = hashlib.sha256(repr((_FLAGS, self.flags, _LEVELS[level][1], platform.machine())).encode())
        for path in (*(self.folder / file for file in self.files), _SHARED / "native.h"):
            running.update(path.read_bytes())
        return f"{self.name}-{level}-{running.hexdigest()[:16]}.so"


class KernelUnavailable(Exception):  # noqa: N818
    """There is no compiled library, and none could be made; the message says why."""


@cache
def processor_flags() -> frozenset[str]:
    """What /proc/cpuinfo says that the processor can do, and Linux lets it; empty elsewhere than there on x86-64."""
    if platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists():
        return frozenset()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
    return found if found >= _TILES and _tiles_allowed() else found - _TILES


def _tiles_allowed() -> bool:
    """Ask Linux for the room that matrix tiles take in every thread; a program that did not ask is ended at the first.

    The numbers are x86-64's: arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA (Documentation/arch/x86/xstate.rst).
    """
    return bool(ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0)


def best_level(flags: frozenset[str]) -> str:
    """The first level that a processor with these flags can run."""
    return next(level for level, (needed, _) in _LEVELS.items() if needed <= flags)


def levels() -> tuple[str, ...]:
    """Those that this processor can run, the best first."""
    return tuple(level for level, (needed, _) in _LEVELS.items() if needed <= processor_flags())


def load(sources: Sources, level: str | None = None) -> ctypes.CDLL:
    """The library of a level, its calls not yet described.

    Raises:
        KernelUnavailable: See `library`; or it cannot be loaded, or speaks another version of the calls.
    """
    path = library(sources, level)
    _provide_openmp()
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as fault:
        raise KernelUnavailable(f"{path} cannot be loaded: {fault}") from fault
    if (found := loaded[f"{sources.name}_abi"]()) != sources.abi:
        raise KernelUnavailable(f"{path} speaks version {found} of the calls, this program {sources.abi}")
    return loaded


@cache
def _provide_openmp() -> None:
    """Load the OpenMP that torch brings, where torch is installed: one for both, and images have no other."""
    found = find_spec("torch")
    for place in (found.submodule_search_locations or ()) if found else ():
        for file in Path(place).glob("lib/libgomp*.so*"):
            ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)


def library(sources: Sources, level: str | None = None) -> Path:
    """Path of the compiled library of a level, the machine's best by default; compiles where it must.

    Raises:
        KernelUnavailable: This processor cannot run it; it is not there and there is no C++ compiler, or the compiler
            failed.
    """
    level = level or best_level(processor_flags())
    if missing := _LEVELS[level][0] - processor_flags():
        raise KernelUnavailable(f"level {level}: this processor, or Linux on it, has no {', '.join(sorted(missing))}")
    name = sources.library_name(level)
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "opt-operator" / "kernels"
    there = next((path for path in (sources.built / name, folder / name) if path.exists()), None)
    return there or build(sources, level, folder)


def build(sources: Sources, level: str, folder: Path) -> Path:
    """Compile one level into a folder; a half-written file never has the name.

    Raises:
        KernelUnavailable: See `library`.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise KernelUnavailable("no C++ compiler (g++) is installed and no compiled kernels came along")
    name = sources.library_name(level)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, suffix=".so") as made:
            source = str(sources.folder / sources.files[0])
            command = [compiler, *_FLAGS, f"-I{_SHARED}", *sources.flags, *_LEVELS[level][1], source, "-o", made.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise KernelUnavailable(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr[-800:]}")
            os.link(made.name, linked := folder / f"{name}.{os.getpid()}")
            return linked.replace(folder / name)
    except OSError as fault:
        raise KernelUnavailable(f"cannot write compiled kernels to {folder}: {fault}") from fault


def build_all(sources: Sources) -> None:
    """Make every level that this kind of machine has where an image has them, and leave no other there.

    Raises:
        KernelUnavailable: See `library`.
    """
    levels_here = _LEVELS if platform.machine() == "x86_64" else ("plain",)
    wanted = {sources.built / sources.library_name(level): level for level in levels_here}
    for path, level in wanted.items():
        if not path.exists():
            build(sources, level, sources.built)
    for other in set(sources.built.glob(f"{sources.name}-*.so")) - set(wanted):
        other.unlink()


if __name__ == "__main__":
    for module in sys.argv[1:]:
        build_all(import_module(module).SOURCES)
