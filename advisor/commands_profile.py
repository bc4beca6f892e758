"""``advisor profile``: acceptance as files that other machines use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor import api
from advisor.choices import LastOption, SavedArgument, check_saved
from advisor.failures import errors_for_people, say
from advisor.output import check_output, deliver

if TYPE_CHECKING:
    from advisor.profiles.record import Profile

OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write it to this file, not to standard output."),
]
ProfileFiles = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files written by `profile export`.")]

commands = typer.Typer(
    name="profile",
    help="Share acceptance between machines.\n\nExport what was measured here, import what was measured elsewhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command()
def export(
    file: SavedArgument = None,
    last: LastOption = False,
    with_texts: Annotated[
        bool,
        typer.Option(
            "--with-texts",
            help="Include prompts and answers, so that other drafts can be replayed over them. Without it a profile "
            "tells only where a draft agreed.",
        ),
    ] = False,
    output: OutputFile = None,
) -> None:
    """Write what is behind a recommendation as a profile.

    That is the acceptance and the costs.
    """
    with errors_for_people():
        check_saved(file, last=last)
        check_output(output)
        _write(api.export_profile(api.load(file), with_texts=with_texts), output)


@commands.command(name="import")
def import_profiles(files: ProfileFiles) -> None:
    """Keep profiles, so that `recommend` uses them.

    It uses the acceptance of those that fit its question.
    """
    with errors_for_people():
        for path, (profile, is_new) in zip(files, api.import_profiles(files), strict=True):
            news = "Imported" if is_new else "Known already"
            say(f"{news}: {path}\n{_summary(profile)}")


@commands.command()
def merge(files: ProfileFiles, output: OutputFile = None) -> None:
    """Write several profiles of one target as one.

    They must be of the same workload and sampling.
    """
    with errors_for_people():
        check_output(output)
        merged, left_out = api.merge_profiles(files)
        for other in left_out:
            say(f"Of {other.title} only costs are taken: its answers are other answers, so its traces do not compare.")
        _write(merged, output)


@commands.command(name="list")
def list_profiles() -> None:
    """Say which profiles are kept here, and in which files."""
    with errors_for_people():
        from advisor.profiles.kept import path_of
        from advisor.store import data_dir

        lines = [f"{path_of(one.digest, data_dir())}\n{_summary(one)}" for one in api.list_profiles(note=say)]
        deliver(lambda stream: print("\n".join(lines) or "No profile is kept here.", file=stream), None)


def _write(profile: Profile, output: Path | None) -> None:
    from advisor.profiles.record import dumps

    text = dumps(profile).decode()
    deliver(lambda stream: print(text, file=stream, end=""), output)
    if output is not None:
        say(f"Written to {output}\n{_summary(profile)}")


def _summary(profile: Profile) -> str:
    origin = profile.origin
    tokens = sum(len(one.answer_tokens) for one in profile.transcripts)
    texts = "with texts" if origin.has_texts else "without texts"
    machines = ", ".join(dict.fromkeys(cost.host.cpu for cost in profile.costs)) or "no machine"
    return "\n".join(
        [
            f"  {profile.title}: {', '.join(draft.label for draft in profile.drafts)}",
            f"  {len(profile.transcripts)} answers, {tokens} tokens, workload {origin.workload}, temperature "
            f"{origin.sampling.temperature:g}, {texts}",
            f"  replayed on {origin.host.cpu} with {origin.build.engine} {origin.build.version}; costs of {machines}",
        ]
    )
