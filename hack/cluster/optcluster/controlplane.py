"""The control plane: etcd, the API server, the controllers, the scheduler and DNS, as services of one machine."""

from collections.abc import Callable
from pathlib import Path

from optcluster import dns, kubeconfig, programs
from optcluster.addresses import API_PORT, DOMAIN, Addresses
from optcluster.init import Layout, Service
from optcluster.machine import Machine
from optcluster.pki import Authority

# component -> (user, group); the roles of these names are Kubernetes' own, see "Default roles and role bindings"
CLIENTS = {
    "admin": ("opt-admin", "system:masters"),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "coredns": ("opt-coredns", ""),
    "kwok": ("opt-kwok", "system:masters"),
}
# A lost node is noticed after 8 s, not the default 50: tests wait for it many times
NODE_MONITOR_PERIOD_S, NODE_GRACE_S = 1, 8


def make_identities(folder: Path, addresses: Addresses) -> Authority:
    """Makes the certificates of the control plane, and a kubeconfig for each of its clients."""
    authority = Authority(folder / "pki")
    authority.create()
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
    reachable = (addresses.control_plane, addresses.api_service, addresses.host, "127.0.0.1", "localhost")
    authority.issue("apiserver", "kube-apiserver", hosts=(*names, *reachable))
    for name, (user, group) in CLIENTS.items():
        pair = authority.issue(name, user, group)
        kubeconfig.write(folder / f"{name}.kubeconfig", addresses.api_url, authority, pair)
    return authority


def layout(hub: Machine, folder: Path) -> Layout:
    """What the machine looks like from inside: etcd's data is in memory, so that no busy disk holds the cluster up."""
    _etcd_data(folder).mkdir(mode=0o700, exist_ok=True)
    return Layout(hub.name, hub.group, empty=(str(_etcd_data(folder)),))


def _etcd_data(folder: Path) -> Path:
    return folder / "etcd"


def services(folder: Path, addresses: Addresses) -> list[Service]:
    """The services of the control plane; a user's test assets may hold only the first two, which do for many tests."""
    authority = Authority(folder / "pki")
    makers: dict[str, Callable[[], Service]] = {
        "kube-controller-manager": lambda: _controller_manager(folder, authority),
        "kube-scheduler": lambda: _scheduler(folder),
        "coredns": lambda: dns.service(folder, addresses),
    }
    more = [make() for name, make in makers.items() if programs.is_at_hand(name)]
    return [_etcd(_etcd_data(folder)), _api_server(authority, addresses), *more]


def _flags(**values: object) -> tuple[str, ...]:
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in values.items())


def _etcd(data: Path) -> Service:
    flags = _flags(
        data_dir=data,
        listen_client_urls="http://127.0.0.1:2379",
        advertise_client_urls="http://127.0.0.1:2379",
        listen_peer_urls="http://127.0.0.1:2380",
        initial_advertise_peer_urls="http://127.0.0.1:2380",
        initial_cluster="default=http://127.0.0.1:2380",
    )
    return Service("etcd", (str(programs.find("etcd")), *flags))


def _api_server(authority: Authority, addresses: Addresses) -> Service:
    serving, to_kubelets = authority.pair_of("apiserver"), authority.pair_of("apiserver-kubelet")
    flags = _flags(
        etcd_servers="http://127.0.0.1:2379",
        bind_address="0.0.0.0",  # of its own network namespace
        secure_port=API_PORT,
        advertise_address=addresses.control_plane,
        service_cluster_ip_range=addresses.services,
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",  # PodSecurity is among the defaults
        allow_privileged="true",
        client_ca_file=authority.pair.cert,
        tls_cert_file=serving.cert,
        tls_private_key_file=serving.key,
        kubelet_certificate_authority=authority.pair.cert,
        kubelet_client_certificate=to_kubelets.cert,
        kubelet_client_key=to_kubelets.key,
        kubelet_preferred_address_types="InternalIP",  # node names are in no DNS
        service_account_issuer=f"https://kubernetes.default.svc.{DOMAIN}",
        service_account_key_file=authority.service_accounts.cert,
        service_account_signing_key_file=authority.service_accounts.key,
        feature_gates="WatchList=false",  # it needs etcd 3.4.25 or newer: with Debian's, such watches end at once
        enable_aggregator_routing="true",  # webhooks are reached at their pods: no kube-proxy runs here
    )
    # a third of its time went into collecting garbage: the machine has more memory than processors
    return Service("kube-apiserver", (str(programs.find("kube-apiserver")), *flags), {"GOGC": "300"})


def _controller_manager(folder: Path, authority: Authority) -> Service:
    flags = _flags(
        **_own_kubeconfig(folder, "controller-manager"),
        use_service_account_credentials="true",
        service_account_private_key_file=authority.service_accounts.key,
        root_ca_file=authority.pair.cert,
        cluster_signing_cert_file=authority.pair.cert,
        cluster_signing_key_file=authority.pair.key,
        node_monitor_period=f"{NODE_MONITOR_PERIOD_S}s",
        node_monitor_grace_period=f"{NODE_GRACE_S}s",
    )
    return Service("kube-controller-manager", (str(programs.find("kube-controller-manager")), *flags))


def _scheduler(folder: Path) -> Service:
    flags = _flags(**_own_kubeconfig(folder, "scheduler"))
    return Service("kube-scheduler", (str(programs.find("kube-scheduler")), *flags))


def _own_kubeconfig(folder: Path, name: str) -> dict[str, object]:
    """There is one of each, so nobody need be elected: a restarted one goes on at once."""
    path = folder / f"{name}.kubeconfig"
    return {
        "kubeconfig": path,
        "authentication_kubeconfig": path,
        "authorization_kubeconfig": path,
        "leader_elect": "false",
        "bind_address": "127.0.0.1",
    }
