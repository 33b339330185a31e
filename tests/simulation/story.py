"""What applications publish: users, their changes, duplicates, and what is no event at all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from consumer.delivery.passwords import KeyRing
from producer_lib import sealing_info
from tests.simulation.expected import Accepted
from tests.simulation.kafka import Broker
from tests.simulation.watch import Watch

__all__ = ["ACTIONS", "GROUPS", "REALM_ROLES", "Story"]

GROUPS = ("/staff", "/staff/night", "/guests")
REALM_ROLES = ("author", "reviewer")
ACTIONS = ("UPDATE_PASSWORD", "UPDATE_PROFILE", "VERIFY_EMAIL")
"""What every realm of the fake Keycloak has."""

_KINDS = {"user_create": 30, "user_update": 35, "password_change": 20}


@dataclass(slots=True, kw_only=True)
class Story:
    """Publishes events at random.

    Attributes:
        users: how many users there are.
        odd: how often a record is something else than an event of a user of ours.
        held: how often it is one that no version can read: it holds its lane.
        badges: how often it is one that only the newer version can read.
        twice: how often it is published twice.
        deletes: how often a user is deleted; other changes together have 85.
        stray: how often another change of the same user goes to some other partition at the same time.
    """

    rng: random.Random
    keys: KeyRing
    broker: Broker
    watch: Watch
    users: int
    odd: float = 0.05
    held: float = 0.0
    badges: float = 0.0
    twice: float = 0.08
    stray: float = 0.0
    deletes: int = 8
    _number: int = 0
    _known: set[str] = field(default_factory=set)
    _sent: list[tuple[int, bytes, bytes, Accepted]] = field(default_factory=list)

    def publish(self) -> None:
        """Publish the next record."""
        rng = self.rng
        if self._sent and rng.random() < self.twice:
            partition, key, value, says = rng.choice(self._sent[-20:])
            self._append(partition if rng.random() < 0.7 else self._anywhere(), key, value, says)
        elif rng.random() < self.odd:
            self._publish_odd()
        else:
            user = self._any_user()
            self._publish_change(*user, self.broker.home(user[1].encode()))
            if self.rng.random() < self.stray:
                # A producer that partitions by something else is at it at the same time.
                self._publish_change(*user, self._anywhere())

    def user(self, number: int) -> tuple[str, str]:
        """Realm and username key of the n-th user."""
        return ("club" if number % 4 == 3 else "shop"), f"user-{number}"

    def _any_user(self) -> tuple[str, str]:
        # Some users are busier than others.
        return self.user(min(self.rng.randrange(self.users), self.rng.randrange(self.users)))

    def _publish_change(self, realm: str, username: str, partition: int) -> None:
        rng = self.rng
        kind = rng.choices([*_KINDS, "user_delete"], [*_KINDS.values(), self.deletes])[0]
        if username not in self._known and rng.random() < 0.8:
            kind = "user_create"
        elif rng.random() < self.badges:
            kind = "shop_badge"
        self._known.add(username)
        event = self._event(kind, realm, username)
        data = self._data(kind, username)
        password = None
        if kind == "password_change" or (kind == "user_create" and rng.random() < 0.4):
            password = f"password {self._number}"
            info = sealing_info(realm, username, event["id"])
            event["data"] = {**data, "password": {"sealed": self.keys.seal(password.encode(), info)}}
        else:
            event["data"] = data
        if rng.random() < self.held:
            event["type"] = rng.choice(["kcsync.user_update.v9", "kcsync.user_rename.v1"])
        says = Accepted(event_id=event["id"], kind=kind, data=data, password=password)
        self._append(partition, username.encode(), orjson.dumps(event), says)

    def _publish_odd(self) -> None:
        rng = self.rng
        realm, username = self._any_user()
        event = {**self._event("user_update", realm, username), "data": {"first_name": "Odd"}}
        value: bytes | None
        match rng.randrange(5):
            case 0:
                value = None
            case 1:
                value = b"{not json"
            case 2:
                value = orjson.dumps({**event, "data": {"first_name": 7}})
            case 3:
                value = orjson.dumps({**event, "realm": "elsewhere"})
            case _ if self._sent:
                # The id of another event, saying something else.
                reused = rng.choice(self._sent)[3].event_id
                says = Accepted(event_id=reused, kind="user_update", data=event["data"], password=None)
                self._append(self._anywhere(), username.encode(), orjson.dumps({**event, "id": reused}), says)
                return
            case _:
                value = b""
        self.broker.append(self.broker.home(username.encode()), username.encode(), value)

    def _event(self, kind: str, realm: str, username: str) -> dict[str, Any]:
        self._number += 1
        subject = username.title() if self.rng.random() < 0.2 else username
        return {
            "specversion": "1.0",
            "id": f"e{self._number}",
            "source": "/simulation",
            "type": f"kcsync.{kind}.v1",
            "subject": subject,
            "time": "2026-11-21T00:00:00Z",
            "realm": realm,
        }

    def _data(self, kind: str, username: str) -> dict[str, Any]:
        rng, number = self.rng, self._number
        if kind == "user_delete":
            return rng.choice(
                [{}, {"mode": "delete"}, {"mode": "disable"}, {"mode": "disable", "end_sessions": True}]
            )
        if kind == "shop_badge":
            # Tin breaks the schema: whoever knows the kind refuses it.
            return {"badge": rng.choice(["bronze", "silver", "gold", "tin"])}
        if kind == "password_change":
            return rng.choice([{}, {}, {}, {"temporary": True}, {"end_sessions": True}])
        choices: dict[str, Any] = {
            "email": "shared@example.org" if rng.random() < 0.1 else f"{username}-{number}@Example.org",
            "first_name": f"First{number}",
            "last_name": f"Last{number}",
            "email_verified": rng.random() < 0.5,
            "enabled": rng.random() < 0.7,
            "attributes": {rng.choice("abc"): [str(number)]},
            "clear": [rng.choice(["email", "last_name", "attributes.a", "attributes.b"])],
            "required_actions": rng.sample(ACTIONS, rng.randrange(3)),
            "groups": self._membership(GROUPS),
            "realm_roles": self._membership(REALM_ROLES),
        }
        if rng.random() < 0.1:
            del choices["first_name"], choices["last_name"]
            choices["name"] = f"First{number} Last{number}"
        named = rng.sample(sorted(choices), rng.randint(1, 3))
        data = {name: choices[name] for name in sorted(named)}
        if "attributes" in data and rng.random() < 0.3:
            data["attributes_mode"] = "replace"
        if kind == "user_update" and data.get("enabled") is False and rng.random() < 0.5:
            data["end_sessions"] = True
        with_value = {*data, *(f"attributes.{name}" for name in data.get("attributes", ()))}
        if "clear" in data and ("name" in data or not with_value.isdisjoint(data["clear"])):
            data["clear"] = ["attributes.d"]
        return data

    def _membership(self, known: Sequence[str]) -> dict[str, list[str]]:
        first, second = self.rng.sample(known, 2)
        return self.rng.choice([{"add": [first]}, {"remove": [first]}, {"add": [first], "remove": [second]}])

    def _append(self, partition: int, key: bytes, value: bytes, says: Accepted) -> None:
        position = self.broker.append(partition, key, value)
        self._sent.append((partition, key, value, says))
        self.watch.published[position] = says
        self.watch.note(
            f"published {says.event_id} ({says.kind} of {key.decode()}) at {position.partition}/{position.offset}"
        )

    def _anywhere(self) -> int:
        return self.rng.randrange(self.broker.partitions)
