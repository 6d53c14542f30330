"""Container images: archives built with buildah, and image stores that every node starts with.

A store is containerd's own folder with the images already imported and unpacked. It is made once per set of archives,
and a node that starts with it has its images at once, at no cost in time or room.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from optcluster import programs
from optcluster.errors import ClusterError, say
from optcluster.locks import one_at_a_time
from optcluster.machine import Machine
from optcluster.paths import images_root, make_private
from optcluster.procs import DIES_WITH_US

PAUSE = "localhost/opt-pause:1"
IMPORT_WITHIN_S = 600.0


def buildah(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Runs buildah with a storage of its own, so that the user's images are not touched.

    Raises:
        ClusterError: it failed; the message holds the end of what it said.
    """
    root = images_root() / "buildah"
    command = [
        *DIES_WITH_US, str(programs.find("buildah")), "--root", str(root / "storage"), "--runroot", str(root / "run"),
        "--storage-driver", "vfs", *map(str, arguments),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ClusterError(f"`buildah {' '.join(map(str, arguments))}` failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def publish(image: str, archive: Path) -> None:
    """Writes an image of buildah's storage as an archive, in one step for those who look for it."""
    temporary = archive.with_name(f".{os.getpid()}-{archive.name}")
    buildah("push", "--quiet", image, f"oci-archive:{temporary}:{image}")
    temporary.rename(archive)


def pause_archive() -> Path:
    """The image that holds a pod's namespaces open; built when it is not in the cache."""
    program = programs.find("pause")
    return program_archive(PAUSE, program, program.parent.name.rpartition("-")[2])


def program_archive(image: str, program: Path, digest: str) -> Path:
    """An image of one static program and nothing else, as an archive; `digest` tells the program's builds apart."""
    archive = images_root() / f"{program.name}-{digest}.tar"
    if not archive.exists():
        programs.provide_debian(programs.DEBIAN_FOR_IMAGES)
        make_private(images_root())
        container = buildah("from", "scratch")
        buildah("copy", "--quiet", container, program, f"/usr/bin/{program.name}")
        entry = json.dumps([f"/usr/bin/{program.name}"])
        buildah("config", "--entrypoint", entry, "--env", "PATH=/usr/bin", "--user", "65532:65532", container)
        buildah("commit", "--quiet", "--rm", container, image)
        publish(image, archive)
        buildah("rmi", "--force", image)
    return archive


def store_of(archives: list[Path]) -> Path:
    """The image store that holds `archives` (whose names tell their content); made when it is not in the cache."""
    store = store_path(archives)
    with one_at_a_time(images_root() / ".store.lock", "unpacking images"):
        if not store.is_dir():
            say(f"unpacking {len(archives)} images")
            work = empty_work_folder("store")
            _import_all(programs.find("containerd"), archives, work)
            (work / "root").rename(store)
            shutil.rmtree(work, ignore_errors=True)
    return store


def store_path(archives: list[Path]) -> Path:
    """Where the image store of `archives` is, or will be."""
    names = " ".join([programs.find("containerd").parent.name, *sorted(archive.name for archive in archives)])
    return images_root() / f"store-{hashlib.sha256(names.encode()).hexdigest()[:16]}"


def empty_work_folder(what: str) -> Path:
    """A folder for the holder of the lock on `what`; those of runs that failed or were killed are removed."""
    for left_over in images_root().glob(f".{what}-*"):
        shutil.rmtree(left_over)
    return Path(tempfile.mkdtemp(prefix=f".{what}-", dir=images_root()))


def copy_store(store: Path, target: Path) -> None:
    """Gives a node an image store of its own, except for the unpacked layers; see `shared_layers`."""
    shutil.rmtree(target, ignore_errors=True)
    layers = {str(layer) for layer in _layers(store)}

    def skip_layers(folder: str, names: list[str]) -> list[str]:
        return names if folder in layers else []

    shutil.copytree(store, target, symlinks=True, ignore=skip_layers, copy_function=_link_or_copy)


def shared_layers(store: Path) -> dict[str, str]:
    """Unpacked layers are never written to: the nodes use those of the store. Path below containerd's root -> layer."""
    return {str(layer.relative_to(store)): str(layer) for layer in _layers(store)}


def _layers(store: Path) -> list[Path]:
    return sorted((store / "io.containerd.snapshotter.v1.overlayfs" / "snapshots").iterdir())


def _link_or_copy(source: str, target: str) -> None:
    """Image content is never changed, only added and removed; everything else is small."""
    if "/blobs/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def load(node: Machine, archive: Path) -> None:
    """Imports an archive into a running node."""
    node.inside(str(programs.find("ctr")), "--namespace", "k8s.io", "images", "import", str(archive.absolute()))


def _import_all(containerd: Path, archives: list[Path], work: Path) -> None:
    socket = work / "s"
    config = work / "config.toml"
    config.write_text(
        f'version = 3\nroot = "{work / "root"}"\nstate = "{work / "state"}"\n[grpc]\naddress = "{socket}"\n'
        'disabled_plugins = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]\n'
    )
    with (work / "log").open("w") as log:
        # a process namespace of its own: nothing of it outlives this run
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", str(containerd)]
        server = subprocess.Popen([*command, f"--config={config}"], stdout=log, stderr=log)
    try:
        _wait_for(socket, server, work / "log")
        for archive in archives:
            _ctr(socket, "images", "import", "--snapshotter", "overlayfs", str(archive))
    finally:
        server.kill()
        server.wait()


def _wait_for(socket: Path, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while not socket.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise ClusterError(f"containerd did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _ctr(socket: Path, *arguments: str) -> None:
    command = [str(programs.find("ctr")), "--address", str(socket), "--namespace", "k8s.io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=IMPORT_WITHIN_S)
    if done.returncode:
        raise ClusterError(f"`ctr {' '.join(arguments)}` failed: {done.stderr.strip()}")
