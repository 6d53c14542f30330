"""The trainer's base image, `images/trainer.Dockerfile` on a Debian made here; built once per set of inputs.

Its packages are those that this Python environment was installed with, so a pod runs the versions that tests run.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from optcluster import programs
from optcluster.errors import ClusterError, say
from optcluster.images import buildah, empty_work_folder, publish
from optcluster.locks import one_at_a_time
from optcluster.paths import SOURCE_ROOT, images_root, make_private
from optcluster.procs import DIES_WITH_US

IMAGE = "localhost/opt-trainer-base:1"
DEBIAN = "localhost/opt-debian:1"
SUITE, SUITE_PYTHON = "bookworm", (3, 11)
DEBIAN_PACKAGES = ("ca-certificates", "python3", "python3-pip")
NOT_NEEDED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")
DOCKERFILE = SOURCE_ROOT / "images" / "trainer.Dockerfile"
MINUTES = 6


def archive() -> Path:
    """The image as an archive; built when the cache does not hold it.

    Raises:
        ClusterError: a tool is missing, this Python is not the image's, or a step failed.
    """
    needed = requirements("opt-operator", {"trainer"})
    target = _path(needed)
    if target.exists():
        return target
    programs.provide_debian(programs.DEBIAN_FOR_IMAGES)
    make_private(images_root())
    with one_at_a_time(images_root() / ".trainer.lock", "building the trainer's base image"):
        if not target.exists():  # another run may have built it while this one waited for the lock
            _build(needed, target)
    return target


def cached() -> Path | None:
    """The image as an archive, if it has been built; nothing is built here."""
    target = _path(requirements("opt-operator", {"trainer"}))
    return target if target.exists() else None


def _path(needed: list[str]) -> Path:
    return images_root() / f"trainer-{_digest(needed)}.tar"


def requirements(distribution: str, extras: set[str]) -> list[str]:
    """Everything that `distribution` with `extras` needs here, itself left out, as `name==version`.

    Raises:
        ClusterError: the distribution or one it needs is not installed.
    """
    found: dict[str, str] = {}
    waiting = [(distribution, frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        for requirement in _needs_of(name, wanted):
            following = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            found[following[0]] = _version(following[0])
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _needs_of(name: str, extras: frozenset[str]) -> list[Requirement]:
    try:
        listed = [Requirement(line) for line in metadata.requires(name) or []]
    except metadata.PackageNotFoundError as error:
        raise ClusterError(f"{name} is not installed in {sys.prefix}: run `make install`") from error
    settings = [{"extra": extra} for extra in ("", *extras)]
    return [one for one in listed if one.marker is None or any(one.marker.evaluate(setting) for setting in settings)]


def _version(name: str) -> str:
    """Without the local part (`+cpu`): which build it is depends on where pip looks."""
    return metadata.version(name).partition("+")[0]


def _digest(needed: list[str]) -> str:
    parts = [DOCKERFILE.read_text(), SUITE, *DEBIAN_PACKAGES, *needed, metadata.version("torch")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build(needed: list[str], target: Path) -> None:
    if sys.version_info[:2] != SUITE_PYTHON:
        wanted, found = (".".join(map(str, version)) for version in (SUITE_PYTHON, sys.version_info[:2]))
        raise ClusterError(f"the image has Python {wanted} and takes wheels made by the same; this is {found}")
    say(f"building the trainer's base image: about {MINUTES} min on two cores, once")
    started = time.monotonic()
    work = empty_work_folder("trainer")
    try:
        _debian(work)
        _context(needed, work / "context")
        buildah(
            "build", "--isolation", "chroot", "--layers=false", "--quiet", "--file", DOCKERFILE,
            "--build-arg", f"BASE={DEBIAN}", "--build-arg", "PIP_OPTIONS=--no-index", "--tag", IMAGE, work / "context",
        )  # fmt: skip
        publish(IMAGE, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    buildah("rmi", "--force", IMAGE, DEBIAN)  # vfs keeps a whole copy of every layer
    say(f"built the trainer's base image in {(time.monotonic() - started) / 60:.1f} min")


def _debian(work: Path) -> None:
    """A minimal Debian with Python, as an image."""
    root = work / "debian"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(DEBIAN_PACKAGES)}", SUITE, str(root)]
    _run(command, dict(os.environ))
    for folder in NOT_NEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)
    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, root, "/")
    shutil.rmtree(root)
    buildah("commit", "--quiet", "--rm", container, DEBIAN)


def _context(needed: list[str], folder: Path) -> None:
    """The build context: exact requirements and their wheels, fetched with this machine's pip and its settings."""
    (folder / "wheels").mkdir(parents=True)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in needed))
    shared = SOURCE_ROOT.parent / "shared" / "wheels"
    links = [str(shared)] if shared.is_dir() else []
    environment = {**os.environ, "PIP_FIND_LINKS": " ".join([*links, os.environ.get("PIP_FIND_LINKS", "")]).strip()}
    listed = ["--requirement", str(folder / "requirements.txt"), "--wheel-dir", str(folder / "wheels")]
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *listed], environment)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run([*DIES_WITH_US, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise ClusterError(f"`{' '.join(command[:4])} ...` failed:\n{said}")
