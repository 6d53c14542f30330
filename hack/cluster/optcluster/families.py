"""What is built: one row per family of Go programs, each with a module of its own that pins it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

KUBERNETES_VERSION = "v1.37.2"


@dataclass(frozen=True)
class Family:
    """Programs that come from one module, built together.

    `minutes` is what a cold build took on two cores, for the time left that a person is told.
    `carry` lists paths of the pinned module (globs) that are kept beside the programs.
    `called` names programs otherwise than their packages, where two families have one of the same name.
    """

    name: str
    packages: tuple[str, ...]
    minutes: float
    ldflags: str = "-s -w"
    carry_from: str = ""
    carry: tuple[str, ...] = ()
    called: Mapping[str, str] = field(default_factory=dict)

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the programs: those that `go build` gives them, unless they are called otherwise."""
        built = (package.rpartition("/")[2] for package in self.packages)
        return tuple(self.called.get(name, name) for name in built)


def _kubernetes_ldflags() -> str:
    """The version is set at link time, see hack/lib/version.sh of Kubernetes; without it clients see v0.0.0."""
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {
        "k8s.io/component-base/version.gitVersion": KUBERNETES_VERSION,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": KUBERNETES_VERSION,
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="kubernetes",
            packages=(
                "k8s.io/kubernetes/cmd/kube-apiserver",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-scheduler",
                "k8s.io/kubernetes/cmd/kubectl",
                "k8s.io/kubernetes/cmd/kubelet",
                "k8s.io/kubernetes/cmd/kube-proxy",
            ),
            minutes=12,
            ldflags=_kubernetes_ldflags(),
        ),
        Family(
            name="containerd",
            packages=(
                "github.com/containerd/containerd/v2/cmd/containerd",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/ctr",
            ),
            minutes=2,
        ),
        Family(name="pause", packages=("opt-operator.io/hack/tools/pause",), minutes=0.1),
        Family(name="coredns", packages=("github.com/coredns/coredns",), minutes=3),
        Family(
            name="kwok",
            packages=("sigs.k8s.io/kwok/cmd/kwok",),
            minutes=2,
            carry_from="sigs.k8s.io/kwok",
            carry=("kustomize/crd/bases/kwok.x-k8s.io_stages.yaml", "kustomize/stage/*/*/*.yaml"),
        ),
        Family(name="minio", packages=("github.com/minio/minio",), minutes=8),
        Family(name="helm", packages=("helm.sh/helm/v4/cmd/helm",), minutes=3),
        Family(name="helm3", packages=("helm.sh/helm/v3/cmd/helm",), minutes=3, called={"helm": "helm3"}),
        Family(
            name="jobset",
            packages=("sigs.k8s.io/jobset",),
            minutes=2,
            carry_from="sigs.k8s.io/jobset",
            carry=("config/components/crd/bases/*.yaml",),
        ),
        Family(
            name="lws",
            packages=("sigs.k8s.io/lws/cmd",),
            minutes=3,
            called={"cmd": "lws"},
            carry_from="sigs.k8s.io/lws",
            carry=("config/crd/bases/*.yaml", "config/webhook/manifests.yaml"),
        ),
        Family(name="kubeconform", packages=("github.com/yannh/kubeconform/cmd/kubeconform",), minutes=0.2),
    )
}

CONTROL_PLANE = ("kubernetes", "coredns")
NODES = ("containerd", "pause")
EXTRAS = ("kwok", "minio", "helm", "helm3", "lws", "kubeconform")
PEERS = ("jobset",)
"""Controllers that benchmarks compare with; no test needs them."""


def family_of(program: str) -> Family:
    """The family that holds `program`."""
    return next(family for family in FAMILIES.values() if program in family.programs)
