"""The address of a Dask scheduler: what can be wrong with it, and who else can reach what goes over it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from advisor.errors import OptionError, ServerProblem

ENCRYPTED = ("tls", "wss")


@contextmanager
def connecting(scheduler: str) -> Iterator[None]:
    """Dask is imported and connected within. OptionError where it is not installed, ServerProblem where it does not
    come to the scheduler."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OptionError(
            "--scheduler needs Dask, which is not installed.",
            why=f"There is no module {error.name}.",
            fix='Run: pip install "draft-advisor[fleet]"',
        ) from None
    # TypeError and RuntimeError: tls:// without certificates, and certificates that do not fit
    except (OSError, ValueError, TimeoutError, TypeError, RuntimeError) as error:
        raise ServerProblem(
            f"--scheduler: there is no Dask scheduler at {scheduler}.",
            why=f"{str(error) or type(error).__name__}.",
            fix="Name the certificates in Dask's configuration, distributed.comm.tls, as the scheduler's."
            if _scheme(scheduler) in ENCRYPTED
            else "Start one with `dask scheduler`; it prints its address, such as tcp://192.168.1.5:8786.",
        ) from None


def exposure(scheduler: str) -> str:
    """What whoever connects there should know, "" where nobody else listens."""
    if _scheme(scheduler) in ENCRYPTED or loopback_host(scheduler) is not None:
        return ""
    return (
        f"{scheduler} is not encrypted: whoever reaches the scheduler or a worker over the network can read the "
        "prompts, and run code on every machine that takes part. Use tls://, or a network whose members you trust."
    )


def loopback_host(scheduler: str) -> str | None:
    """The host, as an address has it, where it is this machine alone; None where others can reach it."""
    try:
        host = urlsplit(_with_scheme(scheduler)).hostname or ""
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return f"[{host}]" if ":" in host else host
    except ValueError:
        pass
    return None


def _scheme(scheduler: str) -> str:
    return _with_scheme(scheduler).split("://")[0].lower()


def _with_scheme(scheduler: str) -> str:
    """As Dask reads it: without a scheme it is tcp."""
    return scheduler if "://" in scheduler else f"tcp://{scheduler}"
