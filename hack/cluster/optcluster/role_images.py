"""The images of the roles, `images/Dockerfile` on a Debian made here.

What a role needs from others is an image of its own, built once per set of inputs: its packages are those that this
Python environment was installed with, so a pod runs the versions that tests run. The project's own wheel goes on top
as a thin layer, in a second or two, for every state of the source tree.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from optcluster import programs, project_wheel
from optcluster.errors import ClusterError, say
from optcluster.images import buildah, empty_work_folder, publish
from optcluster.layers import with_files
from optcluster.locks import one_at_a_time
from optcluster.paths import SOURCE_ROOT, images_root, make_private
from optcluster.procs import DIES_WITH_US

DEBIAN = "localhost/opt-debian:1"
SUITE, SUITE_PYTHON = "bookworm", (3, 11)
DEBIAN_PACKAGES = ("ca-certificates", "python3", "python3-pip")
NOT_NEEDED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")
DOCKERFILE = SOURCE_ROOT / "images" / "Dockerfile"
REPOSITORY = "localhost/opt-operator"
CODE_KEPT_S = 3600.0
ENVIRONMENT = ("LOGNAME=opt-operator",)  # as in the Dockerfile's last stage


@dataclass(frozen=True)
class Role:
    """One row per image; `minutes` is what a cold build of its packages took on two cores."""

    name: str
    minutes: float

    @property
    def packages_image(self) -> str:
        """The image without our code."""
        return f"{REPOSITORY}/{self.name}-packages:1"

    @property
    def image(self) -> str:
        """The image with our code, as the chart names it by default."""
        return f"{REPOSITORY}/{self.name}:{metadata.version('opt-operator')}"

    @property
    def needed(self) -> list[str]:
        """What the role's extra brings, as `name==version`."""
        return requirements("opt-operator", {self.name})

    @property
    def archive(self) -> Path:
        """Where the archive of `packages_image` is, or will be."""
        return images_root() / f"{self.name}-{_digest(self.needed)}.tar"


ROLES = {
    role.name: role for role in (Role("trainer", 3), Role("operator", 0.5), Role("dataprep", 1), Role("serving", 3))
}
TRAINING = ("trainer", "operator", "dataprep")
"""The roles that take part in a training."""


def archives(names: Iterable[str] = TRAINING) -> list[Path]:
    """The roles' packages as archives; those that the cache does not hold are built.

    Raises:
        ClusterError: a tool is missing, this Python is not the image's, or a step failed.
    """
    wanted = [ROLES[name] for name in names]
    if any(not role.archive.exists() for role in wanted):
        programs.provide_debian(programs.DEBIAN_FOR_IMAGES)
        make_private(images_root())
        with one_at_a_time(images_root() / ".roles.lock", "building images"):
            # another run may have built them while this one waited for the lock
            _build_all([role for role in wanted if not role.archive.exists()])
    return [role.archive for role in wanted]


def cached(names: Iterable[str] = TRAINING) -> list[Path]:
    """Those of the roles' archives that have been built; nothing is built here."""
    return [path for name in names if (path := ROLES[name].archive).exists()]


def with_code(name: str) -> Path:
    """The role's image with this checkout's code, as an archive whose lower layers the nodes have."""
    role = ROLES[name]
    (base,) = archives([name])
    code = project_wheel.unpacked()
    parts = " ".join([base.name, code.digest, *ENVIRONMENT])
    target = images_root() / f"code-{name}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}.tar"
    if not target.exists():
        _forget_old_code(name)
        temporary = target.with_name(f".{os.getpid()}-{target.name}")
        with_files(base, role.image, code.files, temporary, code.programs, ENVIRONMENT).rename(target)
    return target


def _forget_old_code(name: str) -> None:
    """Layers of earlier states of the tree, except those that a run may be about to read."""
    for archive in images_root().glob(f"code-{name}-*.tar"):
        if time.time() - archive.stat().st_mtime > CODE_KEPT_S:
            archive.unlink(missing_ok=True)


def make_context(name: str, folder: Path) -> None:
    """A build context for `images/Dockerfile`, for any builder: requirements, and the project's wheel.

    Raises:
        ClusterError: the folder is there already, or the wheel could not be built.
    """
    if folder.exists():
        raise ClusterError(f"{folder} is there already: name a folder that is not")
    (folder / "wheels").mkdir(parents=True)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in ROLES[name].needed))
    project_wheel.build(folder / "project")


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


def _builds_of_torch(needed: list[str]) -> list[str]:
    """The one that is here, if it is needed: another may want libraries that no requirement names."""
    return [metadata.version("torch")] if any(line.startswith("torch==") for line in needed) else []


def _digest(needed: list[str]) -> str:
    packages = DOCKERFILE.read_text().partition("\nFROM packages")[0]
    parts = [packages, SUITE, *DEBIAN_PACKAGES, *needed, *_builds_of_torch(needed)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build_all(roles: list[Role]) -> None:
    if not roles:
        return
    if sys.version_info[:2] != SUITE_PYTHON:
        wanted, found = (".".join(map(str, version)) for version in (SUITE_PYTHON, sys.version_info[:2]))
        raise ClusterError(f"the images have Python {wanted} and take wheels made by the same; this is {found}")
    named, minutes = ", ".join(role.name for role in roles), 1 + sum(role.minutes for role in roles)
    say(f"building the packages of the images {named}: about {minutes:g} min on two cores, once")
    started = time.monotonic()
    work = empty_work_folder("roles")
    try:
        _debian(work)
        for role in roles:
            _build(role, work / role.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    buildah("rmi", "--force", DEBIAN)  # vfs keeps a whole copy of every layer
    say(f"built the packages of the images in {(time.monotonic() - started) / 60:.1f} min")


def _build(role: Role, context: Path) -> None:
    _context(role.needed, context)
    buildah(
        "build", "--isolation", "chroot", "--layers=false", "--quiet", "--file", DOCKERFILE, "--target", "packages",
        "--build-arg", f"BASE={DEBIAN}", "--build-arg", "PIP_OPTIONS=--no-index", "--tag", role.packages_image, context,
    )  # fmt: skip
    shutil.rmtree(context)
    publish(role.packages_image, role.archive)
    buildah("rmi", "--force", role.packages_image)


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
    exact = [f"torch=={build}" for build in _builds_of_torch(needed)]
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *listed, *exact], environment)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run([*DIES_WITH_US, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise ClusterError(f"`{' '.join(command[:4])} ...` failed:\n{said}")
