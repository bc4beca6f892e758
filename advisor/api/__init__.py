"""What the commands do, as functions: ``import advisor``, then ``advisor.recommend(...)``.

    recommend   which draft, measured with files or predicted by name     -> Recommendation
    sweep       every draft at every length, run for real                 -> Recommendation
    recommend_fleet   one answer for each machine of an inventory, and for all of them -> FleetAnswer
    explain     why a recommendation is what it is                        -> Explanation
    to_rows     a recommendation as flat rows, for a data frame           -> list of dicts, see COLUMNS
    export      a recommendation as flags or configuration                -> str
    to_html     a recommendation and its reasons as one page              -> str
    check       the exported llama-server command, started for real       -> Checked
    load        a recommendation that was kept                            -> Recommendation
    observe     a running llama-server beside its recommendation          -> View
    probe       the machine                                               -> Host
    doctor      what is found, what is missing, how to fix each           -> Findings
    models, hosts, local_models, pull      what the catalogue knows, what is on this disk, and a download
    import_results, fit_priors      measurements of others, and priors that have learnt from them
    export_profile, import_profiles, merge_profiles, list_profiles      acceptance that travels between machines
    run_worker                      this machine replays drafts for others

The records are those of ``advisor.types``; what can go wrong is an AdvisorError of ``advisor.errors``, whose message
names options as the command line does (``--max-tokens`` is ``max_tokens`` here). Units stand in the names: ``_s`` is
seconds, ``_bytes`` bytes, ``tokens_per_second`` tokens a second; a speedup is a ratio of speeds, 1.0 is the target
alone, and its interval is the 80 % one.

The command line calls these functions or what they call; nothing here computes. ``store`` is a folder for measurements,
by default that of the command line, so that what one has measured the other knows.
"""

from __future__ import annotations

from advisor.api.answers import recommend, recommend_fleet, sweep
from advisor.api.machine import doctor, hosts, local_models, models, probe, pull, run_worker
from advisor.api.sharing import (
    export_profile,
    fit_priors,
    import_profiles,
    import_results,
    list_profiles,
    merge_profiles,
)
from advisor.api.using import check, explain, export, load, observe, to_html, to_rows

__all__ = [
    "check",
    "doctor",
    "explain",
    "export",
    "export_profile",
    "fit_priors",
    "hosts",
    "import_profiles",
    "import_results",
    "list_profiles",
    "load",
    "local_models",
    "merge_profiles",
    "models",
    "observe",
    "probe",
    "pull",
    "recommend",
    "recommend_fleet",
    "run_worker",
    "sweep",
    "to_html",
    "to_rows",
]
