"""Builds the pinned Go programs once, and keeps them under the digest of everything they are built from."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from optcluster.errors import ClusterError, say
from optcluster.families import FAMILIES, Family
from optcluster.locks import one_at_a_time
from optcluster.paths import TOOL_MODULES, tools_root
from optcluster.procs import DIES_WITH_US

GO_FLAGS = ("-trimpath",)
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
REPORT_EVERY_S = 20.0


def folder_of(family: Family) -> Path:
    """Where the family's programs are, or will be once built."""
    return tools_root() / f"{family.name}-{_digest(family)}"


def is_built(family: Family) -> bool:
    """Whether the programs are in the cache; they are published by a rename, so half-built ones never are."""
    return folder_of(family).is_dir()


def ensure(names: tuple[str, ...]) -> None:
    """Builds those of the named families that the cache does not hold.

    Raises:
        ClusterError: Go is missing, or a build failed.
    """
    waiting = [FAMILIES[name] for name in names if not is_built(FAMILIES[name])]
    for position, family in enumerate(waiting):
        after = sum(other.minutes for other in waiting[position + 1 :])
        with one_at_a_time(tools_root() / f".{family.name}.lock", f"building {family.name}"):
            if not is_built(family):  # another run may have built it while this one waited for the lock
                _build(family, after)


def _digest(family: Family) -> str:
    sources = sorted(TOOL_MODULES.joinpath(family.name).glob("*.go"))  # only our own `pause` has any
    modules = [TOOL_MODULES / family.name / name for name in ("go.mod", "go.sum")]
    parts = [path.read_bytes() for path in [*modules, *sources]]
    parts += [text.encode() for text in (go_version(), *GO_FLAGS, family.ldflags, *family.packages, *family.carry)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


_go_version: list[str] = []


def go_version() -> str:
    """Version, system and architecture of the Go command, as in `go1.26.8 linux/amd64`.

    Raises:
        ClusterError: there is no Go.
    """
    if not _go_version:
        if not shutil.which("go"):
            raise ClusterError(
                "no `go` on the PATH: install Go 1.21 or newer (on Debian: apt-get install golang-go); "
                "it fetches the exact version that each go.mod asks for by itself"
            )
        command = ["go", "env", "GOVERSION", "GOOS", "GOARCH"]
        asked = subprocess.run(command, check=True, capture_output=True, text=True, cwd=TOOL_MODULES / "kubeconform")
        version, system, architecture = asked.stdout.split()
        _go_version.append(f"{version} {system}/{architecture}")
    return _go_version[0]


def _build(family: Family, minutes_after: float) -> None:
    for left_over in tools_root().glob(f".{family.name}.build-*"):
        shutil.rmtree(left_over, ignore_errors=True)  # of a run that was killed: we hold the lock
    work = Path(tempfile.mkdtemp(prefix=f".{family.name}.build-", dir=tools_root()))
    say(
        f"building {', '.join(family.programs)}: about {family.minutes:g} min on two cores the first time"
        + (f", {minutes_after:g} min of other builds after it" if minutes_after else "")
    )
    started = time.monotonic()
    _run_go(family, work, started, minutes_after)
    for built, name in family.called.items():
        (work / built).rename(work / name)
    _carry(family, work)
    work.chmod(0o755)
    work.rename(folder_of(family))
    say(f"built {family.name} in {_clock(time.monotonic() - started)}")


def _run_go(family: Family, work: Path, started: float, minutes_after: float) -> None:
    command = [
        *DIES_WITH_US,
        "go",
        "build",
        *GO_FLAGS,
        "-ldflags",
        family.ldflags,
        "-o",
        f"{work}/",
        *family.packages,
    ]
    environment = {**os.environ, **GO_ENVIRONMENT}
    with (work / ".log").open("w+") as log:
        child = subprocess.Popen(
            command, cwd=TOOL_MODULES / family.name, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            _report_until_done(child, family, started, minutes_after)
        finally:
            child.kill()
            child.wait()
        log.seek(0)
        if child.returncode:
            tail = "".join(log.readlines()[-20:])
            shutil.rmtree(work)
            raise ClusterError(f"`go build` of {family.name} failed ({child.returncode}):\n{tail}")
    (work / ".log").unlink()


def _report_until_done(child: "subprocess.Popen[bytes]", family: Family, started: float, minutes_after: float) -> None:
    while True:
        try:
            child.wait(timeout=REPORT_EVERY_S)
        except subprocess.TimeoutExpired:
            passed = time.monotonic() - started
            left = max(family.minutes * 60 - passed, 0) + minutes_after * 60
            say(f"  {family.name}: {_clock(passed)} so far, at most about {_clock(left)} left in all")
        else:
            return


def _carry(family: Family, work: Path) -> None:
    """Keeps the data files that the programs need from their own module, under the same pin."""
    if not family.carry:
        return
    command = ["go", "list", "-m", "-f", "{{.Dir}}", family.carry_from]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=TOOL_MODULES / family.name)
    module = Path(listed.stdout.strip())
    for pattern in family.carry:
        for source in sorted(module.glob(pattern)):
            target = work / source.relative_to(module)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
