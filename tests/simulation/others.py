"""Everybody else who changes users in Keycloak: the users themselves, administrators, and people who register.

Administrators use the same Admin API as we do; what users do about themselves is in the fake Keycloak, and held to the real
one by tests/conformance/self_service_cases.py.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.simulation.fake_keycloak import FakeKeycloak, Request, User
from tests.simulation.history import Hand
from tests.simulation.keycloak_link import KeycloakServer

__all__ = ["Others"]

_ADMINISTRATOR = Hand("an administrator")
_SELDOM = frozenset({"delete", "register"})


@dataclass(slots=True)
class Others:
    """People who change users, each sort of them at a rate of its own.

    Attributes:
        users: realm and name of those whom events are about.
        groups: paths.
        realm_roles: names.
        actions: aliases of required actions.
        per_second: how often each thing is done; 0 in many worlds.
    """

    server: KeycloakServer
    rng: random.Random
    users: Sequence[tuple[str, str]]
    groups: Sequence[str]
    realm_roles: Sequence[str]
    actions: Sequence[str]
    per_second: dict[str, float] = field(default_factory=dict)
    _number: int = 0

    def draw(self) -> None:
        """Draw who is at it."""
        for name in self._doings():
            often = self.rng.uniform(0.1, 0.8) if self.rng.random() < 0.4 else 0.0
            self.per_second[name] = often * (0.25 if name in _SELDOM else 1.0)

    def stop(self) -> None:
        """Nobody does anything."""
        self.per_second = dict.fromkeys(self._doings(), 0.0)

    def be_busy(self, *only: str) -> None:
        """Everybody does much, or those who do these things."""
        self.per_second = {name: 0.4 * (not only or name in only) for name in self._doings()}

    async def run(self) -> None:
        """Do things until cancelled."""
        doings = self._doings()
        while (total := sum(self.per_second.values())) > 0:
            await asyncio.sleep(self.rng.expovariate(total))
            name = self.rng.choices([*self.per_second], [*self.per_second.values()])[0]
            self._number += 1
            realm, username = self.rng.choice(self.users)
            user = self.server.fake.find(realm, username)
            if name == "register":
                if user is None:
                    self._register(realm, username)
            elif user is not None:
                doings[name](realm, user)

    def _doings(self) -> dict[str, Callable[[str, User], None]]:
        return {
            "choose a password": self._choose_password,
            "confirm an address": self._confirm_address,
            "do what is required": self._do_what_is_required,
            "edit a profile": self._edit_profile,
            "bar": self._bar,
            "require": self._require,
            "move": self._move,
            "grant": self._grant,
            "delete": self._delete,
            "register": lambda _, __: None,
        }

    # Users themselves

    def _choose_password(self, realm: str, user: User) -> None:
        if isinstance(user.password, str):
            old, new = user.password, f"own password {self._number}"
            self._by(user, realm, lambda: self._fake.choose_password(user, old, new, self.server.now_ms))

    def _confirm_address(self, realm: str, user: User) -> None:
        self._by(user, realm, lambda: self._fake.confirm_address(user))

    def _do_what_is_required(self, realm: str, user: User) -> None:
        lasting = [action for action in user.required_actions if action != "UPDATE_PASSWORD"]
        if lasting:
            action = self.rng.choice(lasting)
            self._by(user, realm, lambda: self._fake.do_what_is_required(user, action))

    def _edit_profile(self, realm: str, user: User) -> None:
        what = self.rng.choice(["first_name", "last_name", "a", "b", "c"])
        value = "" if self.rng.random() < 0.2 else f"Own{self._number}"
        self._by(user, realm, lambda: self._fake.edit_profile(user, what, value))

    def _register(self, realm: str, username: str) -> None:
        body = {
            "username": username,
            "enabled": True,
            "firstName": f"Newcomer{self._number}",
            "credentials": [{"type": "password", "value": f"newcomer's password {self._number}"}],
        }
        self._ask(Hand("a newcomer"), "POST", realm, "", body)

    # Administrators

    def _bar(self, realm: str, user: User) -> None:
        self._ask(_ADMINISTRATOR, "PUT", realm, f"/{user.id}", {"enabled": self.rng.random() < 0.2})

    def _require(self, realm: str, user: User) -> None:
        action = self.rng.choice(self.actions)
        required = [each for each in user.required_actions if each != action]
        if len(required) == len(user.required_actions):
            required.append(action)
        self._ask(_ADMINISTRATOR, "PUT", realm, f"/{user.id}", {"requiredActions": required})

    def _move(self, realm: str, user: User) -> None:
        path = self.rng.choice(self.groups)
        found = self._fake.answer(Request(method="GET", path=f"admin/realms/{realm}/group-by-path{path}"), 0)
        group = json.loads(found.body)["id"]
        method = "DELETE" if path in user.groups else "PUT"
        self._ask(_ADMINISTRATOR, method, realm, f"/{user.id}/groups/{group}", {})

    def _grant(self, realm: str, user: User) -> None:
        name = self.rng.choice(self.realm_roles)
        role = json.loads(
            self._fake.answer(Request(method="GET", path=f"admin/realms/{realm}/roles/{name}"), 0).body
        )
        method = "DELETE" if name in user.realm_roles else "POST"
        self._ask(_ADMINISTRATOR, method, realm, f"/{user.id}/role-mappings/realm", [role])

    def _delete(self, realm: str, user: User) -> None:
        self._ask(_ADMINISTRATOR, "DELETE", realm, f"/{user.id}", None)

    @property
    def _fake(self) -> FakeKeycloak:
        return self.server.fake

    def _ask(self, hand: Hand, method: str, realm: str, path: str, body: Any) -> None:
        request = Request(
            method=method,
            path=f"admin/realms/{quote(realm)}/users{path}",
            body="" if body is None else json.dumps(body),
        )
        reply = self.server.by(hand, request, realm)
        assert reply.status in {201, 204}, reply

    def _by(self, user: User, realm: str, act: Callable[[], None]) -> None:
        self.server.history.record(Hand(f"{user.username} in person"), realm, user.id, act)
