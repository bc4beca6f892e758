"""llama-server's n-gram methods once more, slowly: growing token lists, plain scans, tables of fixed size.

Written apart from advisor/ngram, which looks everything up in precomputed indexes of the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence

from advisor.types import Config, Transcript


class Simple:
    def __init__(self, config: Config, buckets: int) -> None:
        self.n, self.m = config.ngram_size, config.k

    def begin(self, prompt: list[int]) -> None:
        pass

    def draft(self, memory: list[int], newest: int) -> list[int]:
        length = len(memory)
        if length < self.n + self.m + 2:
            return []
        wanted = [*memory, newest][-self.n :]
        for at in range(length - self.n - 1, 0, -1):
            if memory[at : at + self.n] == wanted:
                copy = memory[at + self.n : at + self.n + self.m]
                return copy if len(copy) >= self.n else []
        return []

    def accept(self, accepted: int) -> None:
        pass


class MapK:
    only_keys = True

    def __init__(self, config: Config, buckets: int) -> None:
        self.n, self.m, self.min_hits = config.ngram_size, config.k, config.ngram_min_hits
        self.table = [0] * buckets
        self.filled_to = self.begun = self.checked = 0
        self.keys: list[dict] = []
        self.last = None

    def bucket(self, tokens: Sequence[int]) -> int:
        value = 0
        for token in tokens:
            value = (value * 2654435761 + token) % 2**32
        return value % len(self.table)

    def begin(self, prompt: list[int]) -> None:
        size, cut = len(prompt), self.begun
        if cut > size:
            cut = size - self.n - self.m if size > self.n + self.m else 0
        if size < self.checked:
            self.table = [0 if place >= cut else place for place in self.table]
            self.filled_to = cut - 1 if cut > 0 else 0
            survivors = []
            for key in self.keys:
                if key["at"] >= cut:
                    continue
                if not self.only_keys:
                    key["values"] = [v for v in key["values"] if v["at"] < cut]
                    if not key["values"]:
                        continue
                survivors.append(key)
            self.keys = survivors
        self.checked = self.begun = size

    def draft(self, memory: list[int], newest: int) -> list[int]:
        self.last = None
        length, n, m = len(memory), self.n, self.m
        if length < 2 * n + m:
            return []
        self.checked = length
        wanted = [*memory, newest][-n:]
        newest_place = length - n - m - 1
        prompt_places = list(range(self.begun - n - m - 1, self.filled_to, -1)) if self.begun > n + m + 1 else []
        answer_places = [at for at in range(newest_place, self.begun, -1) if at > self.filled_to]
        match = 0
        place = self.table[self.bucket(wanted)]
        if place != 0 and place < newest_place and memory[place : place + n] == wanted:
            match = place
        for at in prompt_places + answer_places:
            if match == 0 and memory[at : at + n] == wanted:
                match = at
        for at in prompt_places + answer_places:
            bucket = self.bucket(memory[at : at + n])
            if self.table[bucket] == 0:
                self.table[bucket] = at
        self.filled_to = max(newest_place, self.filled_to)
        if match == 0:
            return []
        for key in self.keys:
            if memory[key["at"] : key["at"] + n] == wanted:
                break
        else:
            key = {"at": match, "hits": 0, "seen_to": 0, "values": []}
            if self.only_keys:
                key["values"] = [{"at": 0, "limit": m, "count": 0}]
            self.keys.append(key)
        key["hits"] += 1
        self.last = self.value_of(key, memory, wanted, match)
        return memory[match + n : match + n + min(m, self.last["limit"])] if self.last else []

    def value_of(self, key: dict, memory: list[int], wanted: list[int], match: int) -> dict | None:
        if self.only_keys:
            return key["values"][0]
        if key["hits"] < self.min_hits:
            return None
        n, m = self.n, self.m
        for at in range(key["seen_to"], match + 1):
            if memory[at : at + n] != wanted:
                continue
            same = [v for v in key["values"] if memory[v["at"] : v["at"] + m] == memory[at + n : at + n + m]]
            if same:
                same[0]["count"] += 1
            elif len(key["values"]) < 4:
                key["values"].append({"at": at + n, "limit": m, "count": 1})
        key["seen_to"] = match
        counts = [v["count"] for v in key["values"]]
        most = max(counts)
        rest = sum(counts) - most
        if rest > 0 and most < 2 * rest:
            return None
        return key["values"][counts.index(most)]

    def accept(self, accepted: int) -> None:
        if self.last is not None:
            self.last["limit"] = accepted


class MapK4V(MapK):
    only_keys = False


class Mod:
    def __init__(self, config: Config, buckets: int) -> None:
        self.n, self.n_min, self.n_max = config.ngram_size, config.n_min, config.k
        self.table: list[int | None] = [None] * buckets
        self.entered_to = self.drafted = self.low = 0

    def bucket(self, tokens: Sequence[int]) -> int:
        value = 0
        for token in tokens:
            value = (value * 6364136223846793005 + token) % 2**64
        return value % len(self.table)

    def enter(self, memory: list[int]) -> None:
        for at in range(self.entered_to, len(memory) - self.n):
            self.table[self.bucket(memory[at : at + self.n])] = memory[at + self.n]
        self.entered_to = len(memory) - self.n

    def begin(self, prompt: list[int]) -> None:
        self.entered_to = self.drafted = 0
        if len(prompt) < self.n:
            return
        self.enter(prompt)
        if sum(entry is not None for entry in self.table) / len(self.table) > 0.25:
            self.table = [None] * len(self.table)

    def draft(self, memory: list[int], newest: int) -> list[int]:
        self.drafted = 0
        if len(memory) < self.n:
            return []
        if self.entered_to + 32 < len(memory):
            self.enter(memory)
        window = [*memory, newest][-self.n :]
        for count in range(self.n_max):
            token = self.table[self.bucket(window[-self.n :])]
            if token is None:
                if count < self.n_min:
                    return []
                break
            window.append(token)
        self.drafted = len(window) - self.n
        return window[self.n :]

    def accept(self, accepted: int) -> None:
        if self.drafted == 0:
            return
        self.low = self.low + 1 if accepted / self.drafted < 0.25 else 0
        if self.low == 5:
            self.table = [None] * len(self.table)
            self.low = self.entered_to = 0


REFERENCES = {"ngram-simple": Simple, "ngram-map-k": MapK, "ngram-map-k4v": MapK4V, "ngram-mod": Mod}


def serve(
    config: Config, transcripts: Sequence[Transcript], *, context: int, max_tokens: int, buckets: int
) -> list[list[tuple[int, int]]]:
    """(drafted, accepted) of every step of every request, from one server."""
    method = REFERENCES[config.method](config, buckets)
    return [_request(method, one, context, max_tokens) for one in transcripts]


def _request(method, transcript: Transcript, context: int, max_tokens: int) -> list[tuple[int, int]]:
    memory = list(transcript.prompt_tokens)
    method.begin(list(memory))
    newest, *coming = transcript.answer_tokens
    steps = []
    emitted = 1
    while coming:
        room = min(context - len(memory) - 2, max_tokens - emitted - 1)
        draft = method.draft(memory, newest)[:room] if room > 0 else []
        accepted = 0
        while accepted < len(draft) and accepted < len(coming) and draft[accepted] == coming[accepted]:
            is_end = accepted + 1 == len(coming)
            if is_end and accepted + 1 < len(draft):
                break
            accepted += 1
        if draft:
            method.accept(accepted)
        steps.append((len(draft), accepted))
        taken = coming[: accepted + 1]
        memory += [newest, *taken][:-1]
        newest = taken[-1]
        coming = coming[accepted + 1 :]
        emitted += accepted + 1
    return steps
