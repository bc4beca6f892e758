"""Hosts of the test's own on this machine: network namespaces, each with a link to the first of them, and to nothing
else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

SUBNET = "10.213.{}.{}"


@dataclass(frozen=True)
class Host:
    """``hub``: the address at which this host finds the first one."""

    name: str
    hub: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What starts a command there."""
        return "ip", "netns", "exec", self.name


def missing() -> str:
    """Why there can be none here, "" where there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian: apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = _name("trial")
    made = _tried("netns", "add", name)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    _tried("netns", "delete", name)
    return ""


@contextmanager
def separate_hosts(count: int) -> Iterator[tuple[Host, list[Host]]]:
    """The first host, and so many others that reach it alone."""
    with ExitStack() as stack:
        hub = _made(stack, "hub", "127.0.0.1")
        others = []
        for number in range(1, count + 1):
            ours, theirs = SUBNET.format(number, 1), SUBNET.format(number, 2)
            other = _made(stack, str(number), ours)
            link = f"to{number}"
            _ip("link", "add", link, "netns", hub.name, "type", "veth", "peer", "name", "up", "netns", other.name)
            for name, device, address in ((hub.name, link, ours), (other.name, "up", theirs)):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
                _ip("-n", name, "link", "set", "dev", device, "up")
            others.append(other)
        yield hub, others


def _made(stack: ExitStack, name: str, hub: str) -> Host:
    host = Host(_name(name), hub)
    _ip("netns", "add", host.name)
    stack.callback(_ip, "netns", "delete", host.name)
    _ip("-n", host.name, "link", "set", "lo", "up")
    return host


def _name(name: str) -> str:
    return f"advisor-test-{os.getpid()}-{name}"


def _ip(*arguments: str) -> None:
    _tried(*arguments).check_returncode()


def _tried(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
