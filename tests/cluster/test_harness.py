"""The harness itself, without a cluster: what it decides, and what it says when something is missing."""

import ipaddress
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optcluster import build, cli, kubeconfig, lifecycle, procs, programs, role_images
from optcluster.addresses import FIRST_BLOCK, LAST_BLOCK, MAX_NODES, Addresses, choose_block
from optcluster.api import is_true
from optcluster.errors import ClusterError
from optcluster.families import FAMILIES, family_of
from optcluster.init import Layout, Service
from optcluster.paths import SOURCE_ROOT
from optcluster.record import Record, all_records
from optcluster.wait import NotInTimeError, wait_for
from support.cluster import foreign_kubeconfig

COMMAND = SOURCE_ROOT / "hack" / "cluster" / "cluster.py"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPT_OPERATOR_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.unit
def test_a_block_in_use_is_never_chosen():
    routes = [ipaddress.IPv4Network(f"10.{FIRST_BLOCK}.3.0/24"), ipaddress.IPv4Network("192.168.0.0/16")]
    assert choose_block(routes, taken={FIRST_BLOCK + 1}) == FIRST_BLOCK + 2
    with pytest.raises(ClusterError, match="all in use"):
        choose_block([ipaddress.IPv4Network("10.0.0.0/8")], taken=set())


@pytest.mark.unit
@pytest.mark.parametrize("block", [FIRST_BLOCK, LAST_BLOCK])
def test_addresses_do_not_overlap(block: int):
    given = Addresses(block)
    pods, services, everything = (
        ipaddress.IPv4Network(text) for text in (given.pods, given.services, given.everything)
    )
    of_nodes = [ipaddress.IPv4Network(given.node_pods(number)) for number in range(1, MAX_NODES + 1)]
    assert len(set(of_nodes)) == MAX_NODES
    assert all(one.subnet_of(pods) for one in of_nodes)
    assert not pods.overlaps(services)
    assert pods.subnet_of(everything)
    assert services.subnet_of(everything)
    for address in (given.api_service, given.dns_service):
        assert ipaddress.IPv4Address(address) in services


@pytest.mark.unit
def test_wait_for_says_what_it_saw_and_what_explains_it():
    with pytest.raises(NotInTimeError) as failed:
        wait_for(list, 0, "three nodes Ready", lambda: "node-2: no heartbeat")
    assert str(failed.value).splitlines() == [
        "not within 0 s: three nodes Ready", "last seen: []", "node-2: no heartbeat",
    ]  # fmt: skip


@pytest.mark.unit
def test_wait_for_takes_errors_of_servers_for_not_yet():
    answers = iter([ConnectionRefusedError("starting"), LookupError("not there"), "ok"])

    def ask() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_for(ask, 5, "an answer", every_s=0) == "ok"


@pytest.mark.unit
def test_a_new_object_has_no_condition():
    assert not is_true({}, "Ready")
    assert not is_true({"status": {"conditions": None}}, "Ready")
    assert is_true({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, "Ready")


@pytest.mark.unit
def test_a_reused_pid_is_another_process():
    me = procs.me()
    assert me.alive
    assert not procs.Process(me.pid, me.started + 1).alive


@pytest.mark.unit
def test_what_is_written_is_read_back(cache: Path):
    record = Record("a", FIRST_BLOCK, procs.me(), None, 3, {"kernel/panic": "1"})
    record.write()
    assert all_records() == [record]
    service, layout = Service("s", ("true", "-x"), {"A": "b"}), Layout("host", "group", ("/run",), {"/a": "/b"})
    service.write(cache)
    layout.write(cache)
    assert Service.read(cache / "s.json") == service
    assert Layout.read(cache) == layout


@pytest.mark.unit
def test_a_redirected_kubeconfig_keeps_everything_but_the_server(tmp_path: Path):
    document = {"clusters": [{"cluster": {"server": "https://a", "certificate-authority-data": "eA=="}}], "users": [1]}
    (tmp_path / "from").write_text(json.dumps(document))
    kubeconfig.redirected(tmp_path / "from", tmp_path / "to", "https://b")
    document["clusters"][0]["cluster"]["server"] = "https://b"
    assert json.loads((tmp_path / "to").read_text()) == document


@pytest.mark.unit
def test_only_a_kubeconfig_of_others_is_foreign(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert foreign_kubeconfig() is None
    monkeypatch.setenv("KUBECONFIG", str(cache / "clusters" / "default" / "admin.kubeconfig"))
    assert foreign_kubeconfig() is None
    monkeypatch.setenv("KUBECONFIG", f"/elsewhere/config{os.pathsep}/another")
    assert foreign_kubeconfig() == Path("/elsewhere/config")


@pytest.mark.integration
def test_tests_that_break_a_cluster_leave_a_foreign_one_alone(tmp_path: Path):
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", str(Path(__file__).parent)]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "config")}
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True, cwd=SOURCE_ROOT)
    assert "test_crds_and_examples_are_accepted" in done.stdout
    assert "test_a_node_killed_whole" not in done.stdout
    assert "test_down_leaves_no_trace" not in done.stdout
    assert "because KUBECONFIG names another" in done.stdout


@pytest.mark.unit
def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"etcd is missing: .*apt-get install etcd-server"):
        programs.find("etcd")
    with pytest.raises(ClusterError, match=r"missing: .*etcd-server.*apt-get install"):
        programs.provide_debian({"etcd": "etcd-server"})


@pytest.mark.unit
def test_the_users_assets_come_first_and_nothing_is_built(cache: Path, monkeypatch: pytest.MonkeyPatch):
    assets = cache / "assets"
    assets.mkdir()
    (assets / "kube-apiserver").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert programs.find("kube-apiserver") == assets / "kube-apiserver"
    with pytest.raises(ClusterError, match=r"does not hold containerd, .*nothing is built while it is set"):
        programs.provide(("containerd",), debian={})


@pytest.mark.unit
def test_every_program_belongs_to_one_family():
    names = [program for family in FAMILIES.values() for program in family.programs]
    assert len(names) == len(set(names))
    assert all(name in family_of(name).programs for name in names)


@pytest.mark.unit
def test_the_image_holds_what_the_trainer_needs_at_the_versions_installed_here():
    names = {line.partition("==")[0] for line in role_images.requirements("opt-operator", {"trainer"})}
    assert {"torch", "numpy", "safetensors", "minio", "pydantic"} <= names
    assert not names & {"kopf", "kubernetes", "pytest", "opt-operator"}
    with pytest.raises(ClusterError, match="make install"):
        role_images.requirements("no-such-distribution", set())


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["down", "--name", "nothing"], "no cluster 'nothing' is running"),
        (["kill", "1", "--name", "nothing"], "no cluster 'nothing' is running"),
        (["up", "--nodes", "99"], "99 is not from 0 to 60"),
        (["up", "--name", "Not/this"], "is not 1 to 40 small letters"),
    ],
)
def test_the_command_line_says_what_is_wrong(cache: Path, capsys, arguments: list[str], said: str):
    assert cli.main(arguments) == 1
    assert said in capsys.readouterr().err


@pytest.mark.integration
def test_two_runs_at_once_build_once(cache: Path):
    asked = [sys.executable, str(COMMAND), "build", "pause"]
    both = [subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sum("built pause in" in err for _, err in said) == 1
    (built,) = {Path(out.strip()) for out, _ in said}
    assert (built / "pause").exists()
    assert build.is_built(FAMILIES["pause"])


@pytest.mark.integration
def test_a_killed_build_leaves_nothing_that_looks_built(cache: Path):
    asked = [sys.executable, str(COMMAND), "build", "kubeconform"]
    with subprocess.Popen(asked, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        assert run.stderr is not None
        assert "building kubeconform" in run.stderr.readline()
        run.send_signal(signal.SIGKILL)
    assert not build.is_built(FAMILIES["kubeconform"])
    build.ensure(("kubeconform",))
    assert (build.folder_of(FAMILIES["kubeconform"]) / "kubeconform").exists()


@pytest.mark.cluster
def test_two_programs_of_the_user_make_a_control_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What envtest ships is enough: nothing is built, and nothing of ours is needed in the cache."""
    for program in [programs.find(name) for name in ("kube-apiserver", "kubectl")]:
        (tmp_path / program.name).symlink_to(program)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("OPT_OPERATOR_CACHE", str(tmp_path / "cache"))
    made = lifecycle.up(f"assets-{os.getpid()}", 0, procs.me())
    try:
        assert made.api.request("GET", "/readyz") == "ok"
        assert not (tmp_path / "cache" / "tools").exists()
    finally:
        lifecycle.down(made)
