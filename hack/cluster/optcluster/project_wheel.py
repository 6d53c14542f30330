"""This checkout's own wheel, and what pip would make of it in an image."""

import compileall
import hashlib
import py_compile
import subprocess
import sys
import tempfile
import zipfile
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from optcluster.errors import ClusterError
from optcluster.layers import PYTHON_PACKAGES
from optcluster.paths import SOURCE_ROOT

COMPILED = ("opt_model.products.library", "opt_serving.kernels.library", "opt_trainer.recipe.kernel")
"""Modules whose C++ comes compiled, for every level of this kind of machine: images have no compiler."""
PROGRAMS = "usr/local/bin"
SCRIPT = "#!/usr/bin/env python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"


@dataclass(frozen=True)
class Unpacked:
    """Files of an image (path -> content), which of them are programs, and the digest of the wheel's content."""

    files: dict[str, bytes]
    programs: frozenset[str]
    digest: str


def build(folder: Path) -> Path:
    """Builds the wheel into `folder` and returns it.

    Raises:
        ClusterError: the compiler or hatchling failed; the message holds what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _compiled()
    _python("the project's wheel", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    return next(folder.glob("opt_operator-*.whl"))


@cache
def _compiled() -> None:
    """Once a process: it imports torch."""
    _python("compiled kernels", "opt_model.native", *COMPILED)


def _python(what: str, module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=SOURCE_ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ClusterError(f"{what} cannot be built:\n{(done.stdout + done.stderr)[-3000:]}")


def unpacked() -> Unpacked:
    """The wheel, built and unpacked as pip does it, with byte code that is never checked against the source."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(build(folder / "wheel")) as wheel:
            wheel.extractall(folder / "code")
        digest = _digest(folder / "code")
        _compile(folder / "code")
        files = {f"{PYTHON_PACKAGES}/{path}": content for path, content in _files(folder / "code")}
        scripts = _scripts(folder / "code")
    return Unpacked(files | scripts, frozenset(scripts), digest)


def _files(root: Path) -> list[tuple[str, bytes]]:
    return [(str(path.relative_to(root)), path.read_bytes()) for path in sorted(root.rglob("*")) if path.is_file()]


def _digest(root: Path) -> str:
    total = hashlib.sha256()
    for path, content in _files(root):
        total.update(f"{path} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def _compile(root: Path) -> None:
    """The image's Python is this one (see `role_images`), and on a read-only root nothing could be compiled later."""
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        root, quiet=1, stripdir=str(root), prependdir=f"/{PYTHON_PACKAGES}", invalidation_mode=unchecked
    )


def _scripts(root: Path) -> dict[str, bytes]:
    entries = ConfigParser(delimiters=("=",))
    entries.read(next(root.glob("*.dist-info")) / "entry_points.txt")
    return {
        f"{PROGRAMS}/{name}": SCRIPT.format(module=module, function=function).encode()
        for name, target in entries["console_scripts"].items()
        for module, _, function in [target.partition(":")]
    }
