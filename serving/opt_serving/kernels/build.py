"""Find or make the compiled kernels: those that came with the image, those made before, else the compiler's.

One library for each level of the instruction set, named by a digest of the sources, the flags and the compiler, so a
stale one is never loaded. `python -m opt_serving.kernels.build FOLDER` makes every level, for an image.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

SOURCES = ("opt.cpp", "tiled_attention.h", "attention.h", "rows.h", "tiles.h", "linear.h", "lanes.h")
HERE = Path(__file__).parent
BUILT = HERE / "built"
"""Where an image has them."""
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno")
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


def library(level: str | None = None) -> Path:
    """Path of the compiled library of a level, the machine's best by default; compiles where it must.

    Raises:
        KernelUnavailable: This processor cannot run it; it is not there and there is no C++ compiler, or the compiler
            failed.
    """
    level = level or best_level(processor_flags())
    if missing := _LEVELS[level][0] - processor_flags():
        raise KernelUnavailable(f"level {level}: this processor, or Linux on it, has no {', '.join(sorted(missing))}")
    shipped = BUILT / _name(level)
    if shipped.exists():
        return shipped
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "opt-operator" / "kernels"
    kept = folder / _name(level)
    return kept if kept.exists() else build(level, folder)


def build(level: str, folder: Path) -> Path:
    """Compile one level into a folder; a half-written file never has the name.

    Raises:
        KernelUnavailable: See `library`.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise KernelUnavailable("no C++ compiler (g++) is installed and no compiled kernels came along")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, suffix=".so") as made:
            command = [compiler, *_FLAGS, *_LEVELS[level][1], str(HERE / "opt.cpp"), "-o", made.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise KernelUnavailable(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr[-800:]}")
            os.link(made.name, linked := folder / f"{_name(level)}.{os.getpid()}")
            return linked.replace(folder / _name(level))
    except OSError as fault:
        raise KernelUnavailable(f"cannot write compiled kernels to {folder}: {fault}") from fault


def _name(level: str) -> str:
    running = hashlib.sha256(repr((_FLAGS, _LEVELS[level][1], platform.machine())).encode())
    for source in SOURCES:
        running.update((HERE / source).read_bytes())
    return f"opt-{level}-{running.hexdigest()[:16]}.so"


def main(arguments: list[str]) -> None:
    """Make every level that this kind of machine has, into the folder given, or where an image has them."""
    folder = Path(arguments[0]) if arguments else BUILT
    for level in _LEVELS if platform.machine() == "x86_64" else ("plain",):
        print(build(level, folder))


if __name__ == "__main__":
    main(sys.argv[1:])
