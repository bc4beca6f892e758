"""Every error a user can meet.

    AdvisorError                    never raised itself; carries what / why / what to do
    ├── UserError                   exit code 2: something the user can change
    │   ├── FileProblem             missing, unreadable, not what it should be
    │   │   └── GGUFError           a model file that cannot be read, with offset and field
    │   ├── WorkloadError           a prompt file, with the line
    │   ├── OptionError             an option value, or a combination of options
    │   ├── ServerProblem           a server to watch: not reachable, no counters, not a llama-server
    │   └── NothingFits             no draft survives pruning
    ├── EngineError                 exit code 3: the engine failed
    │   ├── EngineCrash             the worker died: signal or exit code, last log lines
    │   ├── EngineTimeout           the worker did not answer in time
    │   ├── EngineRefusal           the engine answered with an error (load failed, context too small ...)
    │   └── TargetFailure           the target alone failed, so no draft is to blame
    ├── HubError                    exit code 3: the model hub cannot be reached, refuses, or sends something else
    ├── StoreError                  exit code 3: measurements cannot be read or written
    └── OutOfTime                   a limit of time came before there was anything to show; no user meets it

The message of an error is for a person: one sentence for what happened, one for why, one for what to do.
"""

from __future__ import annotations


class AdvisorError(Exception):
    exit_code = 3

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n".join(part for part in (what, why, fix) if part))

    @property
    def line(self) -> str:
        """What happened and why, for where there is one line."""
        return f"{self.what} {self.why}".strip()


class UserError(AdvisorError):
    exit_code = 2


class FileProblem(UserError):
    pass


class GGUFError(FileProblem):
    """A GGUF file that cannot be read. ``offset`` is in bytes, ``field`` names what was being read."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", offset: int = 0, field: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.offset, self.field = offset, field


class WorkloadError(UserError):
    pass


class OptionError(UserError):
    pass


class ServerProblem(UserError):
    pass


class NothingFits(UserError):
    pass


class EngineError(AdvisorError):
    pass


class TargetFailure(EngineError):
    pass


class EngineCrash(EngineError):
    """``signal_name`` is e.g. "SIGSEGV", or "exit code 1" where the process was not killed by a signal."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", signal_name: str = "", log_tail: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.signal_name, self.log_tail = signal_name, log_tail


class EngineTimeout(EngineError):
    pass


class EngineRefusal(EngineError):
    pass


class HubError(AdvisorError):
    pass


class StoreError(AdvisorError):
    pass


class OutOfTime(AdvisorError):
    """Nobody is to blame, so it is no EngineError: whoever set the limit goes on with what there is."""

    def __init__(self) -> None:
        super().__init__("The time for it was over.", fix="Give more --budget.")
