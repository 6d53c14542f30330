"""The cluster's certificates, made with the openssl program: one authority, one pair per component."""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from optcluster import programs

DAYS = 30  # a test cluster lives minutes; one for hand use, days
CURVE = "prime256v1"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, in PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """The certificate authority of one cluster, in `folder`."""

    folder: Path

    @property
    def pair(self) -> Pair:
        """The authority's own certificate and key."""
        return Pair(self.folder / "ca.crt", self.folder / "ca.key")

    @property
    def service_accounts(self) -> Pair:
        """The pair that signs and checks service account tokens."""
        return Pair(self.folder / "sa.pub", self.folder / "sa.key")

    def create(self) -> None:
        """Makes the authority and the service accounts' key."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _new_key(self.pair.key)
        _openssl(
            "req", "-x509", "-new", "-key", self.pair.key, "-out", self.pair.cert,
            "-days", DAYS, "-subj", "/CN=opt-operator test cluster", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        _new_key(self.service_accounts.key)
        _openssl("pkey", "-in", self.service_accounts.key, "-pubout", "-out", self.service_accounts.cert)

    def pair_of(self, name: str) -> Pair:
        """The files of the pair `name`."""
        return Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def issue(self, name: str, user: str, group: str = "", hosts: tuple[str, ...] = ()) -> Pair:
        """Makes a pair for `user` in `group`; with `hosts` (names and addresses) it may serve as well."""
        pair = self.pair_of(name)
        _new_key(pair.key)
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(_extensions(hosts))
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        _openssl("req", "-new", "-key", pair.key, "-subj", subject, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.pair.cert, "-CAkey", self.pair.key,
            "-set_serial", secrets.randbits(63), "-days", DAYS, "-extfile", extensions, "-out", pair.cert,
        )  # fmt: skip
        request.unlink()
        extensions.unlink()
        return pair


def _extensions(hosts: tuple[str, ...]) -> str:
    lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature"]
    lines.append("extendedKeyUsage=clientAuth" + (",serverAuth" if hosts else ""))
    if hosts:
        kinds = ("IP" if host.replace(".", "").isdigit() else "DNS" for host in hosts)
        lines.append("subjectAltName=" + ",".join(f"{kind}:{host}" for kind, host in zip(kinds, hosts, strict=True)))
    return "\n".join(lines) + "\n"


def _new_key(path: Path) -> None:
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{CURVE}", "-out", path)
    path.chmod(0o600)


def _openssl(*arguments: object) -> None:
    command = [str(programs.find("openssl")), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
