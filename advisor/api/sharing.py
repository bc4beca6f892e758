"""Measurements that travel: results of others for the priors, and acceptance as profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from advisor.api.arguments import Note, PathText, kept_in, many_paths, silent
from advisor.types import Recommendation

if TYPE_CHECKING:
    from advisor.predict.learning import Learnt, Refit
    from advisor.profiles.record import Profile


def import_results(files: Sequence[PathText], *, store: PathText | None = None) -> tuple[Learnt, ...]:
    """Keep results of draftbench, or recommendations in JSON, as evidence for the priors; what each file brought.
    FileProblem for a file that cannot be read or teaches nothing: then none is kept."""
    from advisor.predict.learning import import_files
    from advisor.user_catalog import user_catalog

    with kept_in(store):
        return import_files(many_paths(files, "files"), user_catalog())


def fit_priors(
    files: Sequence[PathText] = (),
    *,
    from_scratch: bool = False,
    store: PathText | None = None,
    note: Note = silent,
) -> Refit:
    """Fit the priors with what was imported and ``files`` on top of what is shipped, or ``from_scratch``, and predict
    with them from now on. A minute or two. FileProblem where there is nothing new to learn from."""
    from advisor.predict.belief import shipped
    from advisor.predict.learning import collect, put_in_use, refit
    from advisor.user_catalog import user_catalog

    with kept_in(store):
        start = None if from_scratch else shipped()
        found = refit(collect(many_paths(files, "files"), start, user_catalog(note), note), start)
        put_in_use(found.fitted)
        return found


def export_profile(rec: Recommendation, *, with_texts: bool = False, store: PathText | None = None) -> Profile:
    """The acceptance and the costs behind ``rec``, for other machines. ``advisor.profiles.record.dumps`` makes the
    bytes of its file.

    Prompts and answers are in it only ``with_texts``: without them it tells where a draft agreed, with them other
    drafts can be replayed. FileProblem where there is nothing to export, or the texts are not here.
    """
    from importlib import metadata

    from advisor.profiles.kept import find
    from advisor.profiles.make import profile_of
    from advisor.store import Store, data_dir, measurements_path

    with kept_in(store), Store(measurements_path()) if with_texts else Store.in_memory() as measured:
        return profile_of(
            rec,
            metadata.version("draft-advisor"),
            with_texts=with_texts,
            store=measured,
            imported=lambda digest: find(digest, data_dir()),
        )


def import_profiles(files: Sequence[PathText], *, store: PathText | None = None) -> tuple[tuple[Profile, bool], ...]:
    """Keep profiles, so that ``recommend`` uses the acceptance of those that fit its question; each with whether it is
    new here. FileProblem for a file that is none: then none is kept."""
    from advisor.profiles.kept import keep
    from advisor.profiles.record import read
    from advisor.store import data_dir

    profiles = [read(path) for path in many_paths(files, "files")]
    with kept_in(store):
        return tuple((profile, keep(profile, data_dir())) for profile in profiles)


def list_profiles(*, store: PathText | None = None, note: Note = silent) -> tuple[Profile, ...]:
    """The profiles that are kept here, the newest first; ``note`` is told of each file that cannot be used."""
    from advisor.profiles.kept import kept
    from advisor.store import data_dir

    with kept_in(store):
        return tuple(kept(data_dir(), note))


def merge_profiles(files: Sequence[PathText]) -> tuple[Profile, tuple[Profile, ...]]:
    """Several profiles of one target, workload and sampling as one, and those of which only the costs are taken because
    their answers are other answers. FileProblem for a file that is none, or where they do not go together."""
    from advisor.profiles.merge import merge
    from advisor.profiles.record import read

    return merge([read(path) for path in many_paths(files, "files")])
