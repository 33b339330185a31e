"""Does Keycloak hold what was published, and did it come in order? Pure checks over what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from compose.demo.expectation import Expectation, Expected
from compose.demo.observed import AdminEvent, Login, LoginTrial, Profile
from compose.demo.story import SEQUENCE

_COMPARED = tuple(item.name for item in fields(Profile) if item.name not in {"user_id", "username"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: What must hold, in a few words.
        source: Who was asked.
        looked_at: How many things were compared; a check that had nothing to look at proves nothing.
        problems: What is wrong, a sentence each.
    """

    what: str
    source: str
    looked_at: int
    problems: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all is as it must be."""
        return not self.problems and self.looked_at > 0


def check_profiles(expectation: Expectation, profiles: Sequence[Profile]) -> Check:
    """Every surviving user is there once, with every field as last published, and nobody else is."""
    problems = []
    seen = Counter(profile.username for profile in profiles)
    problems += [f"{name} is there {count} times" for name, count in seen.items() if count > 1]
    problems += [f"{name} was never published" for name in seen if name not in expectation.users]
    found = {profile.username: profile for profile in profiles}
    for user in expectation.alive:
        profile = found.get(user.username)
        if profile is None:
            problems.append(f"{user.username} is missing")
            continue
        for name in _COMPARED:
            published, read = getattr(user, name), getattr(profile, name)
            if published != read:
                problems.append(
                    f"{user.username}: {name} is {_shown(read)}, published was {_shown(published)}"
                )
    return Check(
        what="users hold exactly what was published last",
        source="Admin API",
        looked_at=len(expectation.alive),
        problems=tuple(problems),
    )


def check_deleted(expectation: Expectation, profiles: Sequence[Profile]) -> Check:
    """No deleted user is there."""
    there = {profile.username for profile in profiles}
    return Check(
        what="deleted users are absent",
        source="Admin API",
        looked_at=len(expectation.gone),
        problems=tuple(
            f"{user.username} was deleted and is there" for user in expectation.gone if user.username in there
        ),
    )


def check_new_passwords(trials: Sequence[LoginTrial]) -> Check:
    """The password published last logs in."""
    return Check(
        what="the new password logs in",
        source="real logins",
        looked_at=len(trials),
        problems=tuple(
            f"{trial.username}: the new password is {trial.current.value}"
            for trial in trials
            if trial.current is not Login.ACCEPTED
        ),
    )


def check_old_passwords(trials: Sequence[LoginTrial]) -> Check:
    """The password before it does not."""
    return Check(
        what="the old password does not",
        source="real logins",
        looked_at=len(trials),
        problems=tuple(
            f"{trial.username}: the old password is {trial.former.value}"
            for trial in trials
            if trial.former is not Login.WRONG_PASSWORD
        ),
    )


def check_life_cycles(expectation: Expectation, events: Iterable[AdminEvent]) -> Check:
    """Each user was created, then changed, then deleted, as often as published; events of the same millisecond may tie.

    How often users were changed between says nothing: due changes share a call. Logins and profiles prove what came of it.
    """
    lives = _lives(events)
    problems: list[str] = []
    looked_at = 0
    for user in expectation.users.values():
        its = lives.get(user.username, ())
        looked_at += sum(map(len, its))
        if len(its) != user.lives:
            problems.append(f"{user.username} was created {len(its)} times, published were {user.lives}")
            continue
        problems += _life_problems(user, its)
    return Check(
        what="each user: created, changed, deleted, in that order",
        source="admin events",
        looked_at=looked_at,
        problems=tuple(problems),
    )


def check_sequences(expectation: Expectation, events: Iterable[AdminEvent]) -> Check:
    """Each user's running number never went down, and the last one published came last."""
    lives = _lives(events)
    problems = []
    looked_at = 0
    for user in expectation.users.values():
        numbered = [
            (event.time, number)
            for life in lives.get(user.username, ())
            for event in life
            if (number := _sequence(event)) is not None
        ]
        # Within one millisecond Keycloak gives no order, so none is asked for.
        numbers = [number for _, number in sorted(numbered)]
        written = [number for _, number in sorted(numbered, key=lambda pair: pair[0])]
        looked_at += len(written)
        if sorted(numbers) != numbers:
            problems.append(f"{user.username}: the numbers came as {_listed(written)}")
        elif numbers[-1:] != list(user.sequences[-1:]):
            last = user.sequences[-1] if user.sequences else "none"
            problems.append(f"{user.username}: the numbers {_listed(written)} do not end with {last}")
    return Check(
        what="each user's changes arrived in the order published",
        source="admin events",
        looked_at=looked_at,
        problems=tuple(problems),
    )


def _lives(events: Iterable[AdminEvent]) -> Mapping[str, list[list[AdminEvent]]]:
    """Sort the events by user and life: a user who is created again has another id."""
    by_id: dict[str, list[AdminEvent]] = {}
    for event in sorted(events, key=lambda event: event.time):
        by_id.setdefault(event.user_id, []).append(event)
    lives: dict[str, list[list[AdminEvent]]] = {}
    for its in sorted(by_id.values(), key=_born):
        # Only the creation tells the name; without one it is somebody from before the demo.
        name = next((name for event in its if (name := _name_of_new(event)) is not None), None)
        if name is not None:
            lives.setdefault(name, []).append(its)
    return lives


def _life_problems(user: Expected, lives: Sequence[Sequence[AdminEvent]]) -> list[str]:
    problems = []
    previous_end: int | None = None
    for number, life in enumerate(lives, start=1):
        born = _born(life)
        operations = Counter(event.operation for event in life)
        ended = number < user.lives or not user.exists
        if operations["CREATE"] != 1:
            problems.append(f"{user.username} has {operations['CREATE']} creations with one id")
        if any(event.time < born for event in life):
            problems.append(f"{user.username} was changed before the creation")
        if previous_end is not None and born < previous_end:
            problems.append(f"{user.username} was created again before the deletion")
        if operations["DELETE"] != ended:
            problems.append(
                f"{user.username} was deleted {operations['DELETE']} times, published was {int(ended)}"
            )
        ends = [event.time for event in life if event.operation == "DELETE"]
        if ends and any(event.time > ends[0] for event in life):
            problems.append(f"{user.username} was changed after the deletion")
        previous_end = ends[0] if ends else None
    return problems


def _born(life: Sequence[AdminEvent]) -> int:
    return next((event.time for event in life if event.operation == "CREATE"), life[0].time)


def _name_of_new(event: AdminEvent) -> str | None:
    return (event.written or {}).get("username") if event.operation == "CREATE" else None


def _sequence(event: AdminEvent) -> int | None:
    if event.operation not in {"CREATE", "UPDATE"}:
        return None
    values = ((event.written or {}).get("attributes") or {}).get(SEQUENCE)
    return int(values[0]) if values else None


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "(none)"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {sorted(values)}" for name, values in sorted(value.items())) + "}"
    return repr(value)
