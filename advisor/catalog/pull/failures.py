"""Everything the hub and the network can do, as HubError."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from advisor.errors import AdvisorError, HubError


def library() -> Any:
    """huggingface_hub, told to send nothing but what a download needs. Untyped, because it does not export all its
    documented names to type checkers."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when it is imported
    import huggingface_hub
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def transport_error() -> type[Exception]:
    """What the HTTP library of this huggingface_hub raises: httpx's HTTPError until 1.x, httpx2's since."""
    kind: type[Exception] = getattr(library().errors, "HTTPError", ConnectionError)
    return kind


def status_of(error: BaseException) -> int | None:
    """The HTTP status an error carries, None when there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def hub_errors(repo: str, endpoint: str) -> Iterator[None]:
    """Everything the hub and the network can do, as HubError."""
    try:
        yield
    except AdvisorError:
        raise
    except (transport_error(), OSError, ValueError) as error:
        raise _explained(error, repo, endpoint) from error


def _explained(error: Exception, repo: str, endpoint: str) -> HubError:
    errors = library().errors
    page = f"{endpoint}/{repo}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(f"{repo} was not asked for.", why="HF_HUB_OFFLINE is set.", fix="Unset HF_HUB_OFFLINE.")
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{repo!r} cannot be the name of a repository.", fix="It should be like owner/name.")
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{repo} is gated: its owner asks for consent before anybody may download it.",
            why="The hub refused the download.",
            fix=f"Agree at {page}, then log in with `hf auth login` or set HF_TOKEN, and run again.",
        )
    if isinstance(error, errors.RevisionNotFoundError | errors.EntryNotFoundError):
        return HubError(
            f"A file of {repo} is no longer on the hub.",
            why="The repository has changed since it was listed.",
            fix="Run the same command again.",
        )
    status = status_of(error)
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return HubError(
            f"The hub does not give out {repo}.",
            why="It does not exist there, or it is private and you are not logged in as somebody who may see it.",
            fix=f"Look at {page}; for a private repository run `hf auth login` or set HF_TOKEN.",
        )
    if status is not None:
        return HubError(
            f"The hub at {endpoint} answered with status {status}.",
            why="It is too busy." if status == 429 else "Something is wrong there.",
            fix="Run the same command again later: a download goes on from where it stopped.",
        )
    if isinstance(error, ValueError):
        return HubError(f"{endpoint} does not answer as a model hub does.", why=f"{error}.", fix="Check HF_ENDPOINT.")
    return _unreachable(error, endpoint)


def _unreachable(error: Exception, endpoint: str) -> HubError:
    slow = "timeout" in type(error).__name__.lower()
    return HubError(
        f"The hub at {endpoint} {'did not answer in time' if slow else 'cannot be reached'}.",
        why=f"{type(error).__name__}: {error}".rstrip(": ") + ".",
        fix="Check the network (and HF_ENDPOINT, if set) and run again: a download goes on from where it stopped.",
    )
