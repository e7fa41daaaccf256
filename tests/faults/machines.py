"""Machines for a federation's services: a network namespace each, with a router between them that can be broken.

Nothing of it outlives the harness, or is seen outside of it: `python -m tests.faults.storm` is started under ``unshare``
(`PRIVATE`), so that its network, its mounts and its processes are its own.
"""

import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PRIVATE: Final = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""The command that gives a program namespaces of its own; as root, or with --map-root-user where users may do that."""

SHARED: Final = "10.99.0.1"
"""The router's own address: the NATS sites, PostgreSQL and the terminals are there."""

OWN: Final = Path("/run")
"""Once `Machines.build` has mounted it, a memory disk that nobody else sees and that goes with the harness."""
NAMES: Final = OWN / "netns"
"""Where ip(8) keeps namespaces by name."""
TEMPORARY: Final = OWN / "tmp"


DROP: Final = "drop"
RESET: Final = "tcp flags & rst == 0 reject with tcp reset"
"""The resets themselves pass: one that the router sends for one side goes the way of the other."""
LOSE: Final = "numgen random mod 100 < 30 drop"

TABLE: Final = """
table inet kx {
    chain faults { }
    chain passing { type filter hook forward priority 0; jump faults; }
    chain coming { type filter hook input priority 0; jump faults; }
    chain going { type filter hook output priority 0; jump faults; }
}
"""


def run(*command: str, text: str = "") -> str:
    """Do it at once, whatever it prints. Raises CalledProcessError."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


@dataclass(frozen=True, slots=True)
class Cut:
    """What is wrong between two machines, in both directions unless `one_way`; `port` alone of the second if not 0."""

    first: str
    second: str
    how: str
    """What is done to what would pass: `DROP`, `RESET`, `LOSE`."""
    port: int = 0
    one_way: bool = False

    @property
    def rules(self) -> list[str]:
        """As nftables' rules."""
        there = f"ip saddr {self.first} ip daddr {self.second}"
        back = f"ip saddr {self.second} ip daddr {self.first}"
        port, from_port = (f" tcp dport {self.port}", f" tcp sport {self.port}") if self.port else ("", "")
        rules = [f"{there}{port} {self.how}"]
        return rules if self.one_way else [*rules, f"{back}{from_port} {self.how}"]


class Machines:
    """The machines by their services' names, and what is wrong between them now."""

    def __init__(self, names: Sequence[str]) -> None:
        self.address = {name: f"10.99.0.{number}" for number, name in enumerate(names, start=10)}
        self._cuts: list[Cut] = []
        self._lock = threading.Lock()

    def build(self) -> None:
        """Make them. Raises CalledProcessError where this harness is not in namespaces of its own."""
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(OWN))
        # Shared memory is named by process ids, which begin anew in here.
        run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
        for folder in (NAMES, TEMPORARY):
            folder.mkdir(parents=True)
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", f"{SHARED}/32", "dev", "lo")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", "ascii")
        for name, address in self.address.items():
            port = self._port(name)
            run("ip", "netns", "add", name)
            run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", port, "up")
            run("ip", "route", "add", address, "dev", port)
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "address", "add", f"{address}/32", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", SHARED, "dev", "eth0", "src", address)
            run("ip", "-n", name, "route", "add", "default", "via", SHARED, "src", address)
        run("nft", "-f", "-", text=TABLE)

    def network(self, name: str) -> str:
        """The file of a machine's network namespace."""
        return str(NAMES / name)

    def cut(self, *cuts: Cut) -> None:
        """Break something, at once."""
        with self._lock:
            self._cuts += cuts
            self._apply()

    def mend(self, *cuts: Cut) -> None:
        """Undo `cut`."""
        with self._lock:
            for one in cuts:
                self._cuts.remove(one)
            self._apply()

    def slow(self, name: str, kilobits: int) -> None:
        """What reaches a machine comes at so many kilobits a second from now on; 0: as fast as it can."""
        port = self._port(name)
        subprocess.run(["tc", "qdisc", "del", "dev", port, "root"], capture_output=True, check=False)
        if kilobits:
            rate = ("rate", f"{kilobits}kbit", "burst", "4kb", "latency", "400ms")
            run("tc", "qdisc", "add", "dev", port, "root", "tbf", *rate)

    def _port(self, name: str) -> str:
        """The router's end of the line to a machine."""
        return f"kx{self.address[name].rpartition('.')[2]}"

    def _apply(self) -> None:
        rules = "".join(f"add rule inet kx faults {rule}\n" for one in self._cuts for rule in one.rules)
        run("nft", "-f", "-", text="flush chain inet kx faults\n" + rules)
