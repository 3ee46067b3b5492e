"""Two hosts on one machine: network namespaces with a cable between them, a Ray head in one and a worker in the other.

It needs root, `ip` and `unshare` (Debian: iproute2, util-linux). Nothing of it is reached from elsewhere: neither
namespace has a way out.
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.helpers.fleet_runs import descendants, kill
from tests.helpers.project import ROOT

HEAD, OTHER, PORT = "10.231.7.1", "10.231.7.2", 6379
STARTED_S = 240.0  # on a machine that has much else to do
# Three CPUs to count: a worker of the other host finds a place here, too, with one to spare.
CPUS = "3"
# A host that is lost is known to be so after some ten seconds; by default Ray takes half a minute.
SOON = {"RAY_health_check_period_ms": "2000", "RAY_health_check_timeout_ms": "5000"}
SOON |= {"RAY_health_check_failure_threshold": "3", "RAY_health_check_initial_delay_ms": "5000"}


def can_be_made() -> bool:
    """Whether this process may make namespaces."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        return False
    name = f"probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return made


class TwoHosts:
    """`head` and `other`, each with the command that enters it; `environment` is what their processes share."""

    def __init__(self, folder: Path) -> None:
        """Make them, and start Ray on both; `folder` is for what Ray writes."""
        run = secrets.token_hex(2)
        self._names = {"head": f"fleet-{run}-a", "other": f"fleet-{run}-b"}
        self._cable = {"head": f"fl{run}a", "other": f"fl{run}b"}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment = {**SOON, **token, "PYTHONPATH": str(ROOT)}
        self._started: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._network()
        self._ray("head", ["--head", "--port", str(PORT), "--include-dashboard", "false", "--node-ip-address", HEAD])
        self._wait(1)
        self._ray("other", ["--address", f"{HEAD}:{PORT}", "--node-ip-address", OTHER])
        self._wait(2)

    def within(self, host: str) -> list[str]:
        """What a command begins with that runs on a host, under the host's name."""
        return ["ip", "netns", "exec", self._names[host], "unshare", "--uts", "sh", "-c", NAMED, host]

    def cut(self) -> None:
        """Pull the cable out."""
        _ip("-n", self._names["other"], "link", "set", self._cable["other"], "down")

    def kill(self, host: str) -> None:
        """End all that runs on a host, as a power failure does."""
        listed = subprocess.run(["ip", "netns", "pids", self._names[host]], capture_output=True, text=True)
        for pid in map(int, listed.stdout.split()):
            kill(pid)

    def end(self) -> None:
        """End both, and take them down."""
        for host in self._names:
            self.kill(host)
        for started in self._started:
            for pid in [started.pid, *descendants(started.pid)]:
                kill(pid)
            started.wait()
        for name in self._names.values():
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", name)

    def _network(self) -> None:
        for name in self._names.values():
            _ip("netns", "add", name)
        (one, two), (a, b) = self._names.values(), self._cable.values()
        _ip("link", "add", a, "netns", one, "type", "veth", "peer", "name", b, "netns", two)
        for name, cable, address in ((one, a, HEAD), (two, b, OTHER)):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", cable)
            for each in (cable, "lo"):
                _ip("-n", name, "link", "set", each, "up")

    def _ray(self, host: str, words: Sequence[str]) -> None:
        counted = ["--num-cpus", CPUS, "--object-store-memory", str(100 << 20), "--disable-usage-stats", "--block"]
        if host == "head":
            counted += ["--temp-dir", str(self._folder)]
        command = [*self.within(host), sys.executable, "-m", "ray.scripts.scripts", "start", *words, *counted]
        with (self._folder / f"{host}.txt").open("wb") as told:
            self._started.append(
                subprocess.Popen(command, env={**os.environ, **self.environment}, stdout=told, stderr=told)
            )

    def _wait(self, count: int) -> None:
        until = time.monotonic() + STARTED_S
        asking = "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)\n"
        asking += "print(sum(node['Alive'] for node in ray.nodes()))"
        command = [*self.within("head"), sys.executable, "-c", asking, f"{HEAD}:{PORT}"]
        while time.monotonic() < until:
            done = subprocess.run(
                command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=STARTED_S
            )
            if done.stdout.strip().splitlines()[-1:] == [str(count)]:
                return
            time.sleep(1)
        told = "\n".join(path.read_text()[-1000:] for path in sorted(self._folder.glob("*.txt")))
        self.end()
        raise TimeoutError(f"Ray does not start: {done.stdout[-200:]}{done.stderr[-1000:]}\n{told}")


# The host's name, then the command: what follows it are its words.
NAMED = 'hostname "$0" && exec "$@"'


@contextmanager
def two_hosts(folder: Path) -> Iterator[TwoHosts]:
    """The hosts, which do not outlive the test."""
    hosts = TwoHosts(folder)
    try:
        yield hosts
    finally:
        hosts.end()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
