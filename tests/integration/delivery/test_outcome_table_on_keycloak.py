"""Each row of the outcome table (consumer/delivery/classify.py) held against what a real Keycloak answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from consumer.delivery import classify
from consumer.delivery.answer import Answer, Operation
from consumer.delivery.outcome import Blame, DeadLetter, Defer, NotDelivered, Reason, Retry
from tests.integration.delivery.conftest import Observer

CLIENT, POWERLESS, SECRET = "table", "table-without-roles", "table-secret"
BAD_CITY = "Only small letters, please"


@dataclass(frozen=True, slots=True)
class Realm:
    """A realm whose rules refuse much, and its clients."""

    observer: Observer
    name: str

    async def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.observer.call(method, f"/{self.name}{path}", body)

    async def token(self, client: str = CLIENT, secret: str = SECRET, realm: str = "") -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
        path = f"/realms/{realm or self.name}/protocol/openid-connect/token"
        return await self.observer.http.post(path, data=form)

    async def ask(self, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.observer.http.request(
            method,
            f"/admin/realms/{self.name}{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
        )

    async def user(self, **fields: Any) -> str:
        """Create a user; returns the id."""
        made = await self.admin("POST", "/users", {"username": f"table-{uuid4().hex[:12]}", **fields})
        assert made.status_code == 201, made.text
        return made.headers["Location"].rpartition("/")[2]


@pytest.fixture(scope="module")
async def realm(observer: Observer) -> AsyncIterator[Realm]:
    name = f"table-{uuid4().hex[:8]}"
    body = {
        "realm": name,
        "enabled": True,
        "organizationsEnabled": True,
        "passwordPolicy": "length(4) and passwordHistory(3)",
        "clients": [
            {
                "clientId": client,
                "secret": SECRET,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
            }
            for client in (CLIENT, POWERLESS)
        ],
        "users": [
            {
                "username": f"service-account-{CLIENT}",
                "enabled": True,
                "serviceAccountClientId": CLIENT,
                "clientRoles": {"realm-management": ["manage-users"]},
            }
        ],
    }
    made = await observer.call("POST", "", body)
    assert made.status_code == 201, made.text
    profile = (await observer.call("GET", f"/{name}/users/profile")).json()
    attributes = [
        *profile["attributes"],
        {"name": "city", "validations": {"pattern": {"pattern": "^[a-z]+$", "error-message": BAD_CITY}}},
        {"name": "badge", "permissions": {"view": ["admin", "user"], "edit": ["user"]}},
    ]
    changed = await observer.call(
        "PUT",
        f"/{name}/users/profile",
        {**profile, "attributes": attributes, "unmanagedAttributePolicy": "ADMIN_EDIT"},
    )
    assert changed.status_code == 200, changed.text
    yield Realm(observer, name)
    await observer.call("DELETE", f"/{name}")


Said = Callable[[Realm], Awaitable[httpx.Response]]


def username() -> str:
    return f"table-{uuid4().hex[:12]}"


def creating(**fields: Any) -> Said:
    return lambda realm: realm.admin("POST", "/users", {"username": username(), **fields})


def updating(**fields: Any) -> Said:
    async def said(realm: Realm) -> httpx.Response:
        return await realm.admin("PUT", f"/users/{await realm.user()}", fields)

    return said


def resetting(*bodies: Mapping[str, Any]) -> Said:
    async def said(realm: Realm) -> httpx.Response:
        user = await realm.user()
        answers = [await realm.admin("PUT", f"/users/{user}/reset-password", body) for body in bodies]
        return answers[-1]

    return said


async def twice_the_same_username(realm: Realm) -> httpx.Response:
    name = username()
    await realm.user(username=name)
    return await realm.admin("POST", "/users", {"username": name})


async def twice_the_same_email(realm: Realm) -> httpx.Response:
    email = f"{username()}@example.org"
    await realm.user(email=email)
    return await realm.admin("POST", "/users", {"username": username(), "email": email})


async def nobody_of_this_id(realm: Realm) -> httpx.Response:
    return await realm.admin("PUT", f"/users/{uuid4()}", {"firstName": "A"})


async def no_group_of_this_path(realm: Realm) -> httpx.Response:
    return await realm.admin("GET", "/group-by-path/nowhere")


async def no_group_of_this_id(realm: Realm) -> httpx.Response:
    return await realm.admin("PUT", f"/users/{await realm.user()}/groups/{uuid4()}", {})


async def no_role_of_this_name(realm: Realm) -> httpx.Response:
    return await realm.admin("GET", "/roles/nothing")


async def no_role_of_this_id(realm: Realm) -> httpx.Response:
    role = [{"id": str(uuid4()), "name": "nothing"}]
    return await realm.admin("POST", f"/users/{await realm.user()}/role-mappings/realm", role)


async def _group_of_an_organization(realm: Realm) -> str:
    name = f"o{uuid4().hex[:8]}"
    made = await realm.admin(
        "POST", "/organizations", {"name": name, "domains": [{"name": f"{name}.example.org"}]}
    )
    assert made.status_code == 201, made.text
    organization = made.headers["Location"].rpartition("/")[2]
    group = await realm.admin("POST", f"/organizations/{organization}/groups", {"name": "staff"})
    assert group.status_code == 201, group.text
    return str(group.json()["id"])


async def joining_a_group_of_an_organization(realm: Realm) -> httpx.Response:
    group = await _group_of_an_organization(realm)
    return await realm.admin("PUT", f"/users/{await realm.user()}/groups/{group}", {})


async def reading_a_group_of_an_organization(realm: Realm) -> httpx.Response:
    return await realm.admin("GET", f"/groups/{await _group_of_an_organization(realm)}")


async def no_name_where_addresses_are_names(realm: Realm) -> httpx.Response:
    return await realm.admin("POST", "/users", {"email": ""})


async def without_a_role(realm: Realm) -> httpx.Response:
    token = (await realm.token(POWERLESS)).json()["access_token"]
    return await realm.ask(token, "POST", "/users", {})


async def with_a_token_that_is_none(realm: Realm) -> httpx.Response:
    return await realm.ask("none", "POST", "/users", {})


async def in_a_realm_that_is_not(realm: Realm) -> httpx.Response:
    return await realm.observer.call("GET", f"/no-{uuid4().hex}/users")


async def under_a_path_that_is_not(realm: Realm) -> httpx.Response:
    return await realm.observer.http.get(f"/auth/admin/realms/{realm.name}/users")


async def token_of_a_realm_that_is_not(realm: Realm) -> httpx.Response:
    return await realm.token(realm=f"no-{uuid4().hex}")


async def token_by_a_wrong_secret(realm: Realm) -> httpx.Response:
    return await realm.token(secret="wrong")


async def token_of_a_disabled_realm(realm: Realm) -> httpx.Response:
    await realm.admin("PUT", "", {"enabled": False})
    try:
        return await realm.token()
    finally:
        await realm.admin("PUT", "", {"enabled": True})


USER, KEYCLOAK, SETUP = Blame.USER, Blame.KEYCLOAK, Blame.CONFIGURATION
CREATE, UPDATE, RESET, TOKEN = Operation.CREATE, Operation.UPDATE, Operation.SET_PASSWORD, Operation.TOKEN
PASSWORD = {"type": "password", "value": "the first password"}

Row = tuple[str, Operation, Said, type[NotDelivered], Reason, tuple[str, ...]]

ROWS: list[Row] = [
    # (key in the table, call, how Keycloak is brought to it, outcome, reason, fields named)
    ("User exists with same username", CREATE, twice_the_same_username, Retry, Reason.USERNAME_IN_USE, ()),
    ("User exists with same email", CREATE, twice_the_same_email, Retry, Reason.EMAIL_IN_USE, ()),
    ("User not found", UPDATE, nobody_of_this_id, DeadLetter, Reason.USER_MISSING, ()),
    ("Group path does not exist", Operation.GROUP, no_group_of_this_path, Retry, Reason.GROUP_MISSING, ()),
    ("Group not found", Operation.JOIN_GROUP, no_group_of_this_id, Retry, Reason.GROUP_MISSING, ()),
    ("Could not find role", Operation.ROLE, no_role_of_this_name, Retry, Reason.ROLE_MISSING, ()),
    ("Role not found", Operation.GRANT_ROLE, no_role_of_this_id, Retry, Reason.ROLE_MISSING, ()),
    ("error-", CREATE, creating(email="no address"), DeadLetter, Reason.INVALID_DATA, ("email",)),
    ("error-", UPDATE, updating(firstName="x" * 256), DeadLetter, Reason.INVALID_DATA, ("firstName",)),
    (
        "error-",
        CREATE,
        # Keycloak counts in UTF-16: 1,025 characters beyond the basic plane are 2,050.
        creating(attributes={"motto": ["😀" * 1025]}),
        DeadLetter,
        Reason.INVALID_DATA,
        ("motto",),
    ),
    ("error-", CREATE, creating(username="x" * 256), DeadLetter, Reason.INVALID_DATA, ("username",)),
    (
        "a realm's own words",
        CREATE,
        creating(attributes={"city": ["Old Town"]}),
        DeadLetter,
        Reason.INVALID_DATA,
        ("city",),
    ),
    (
        "several errors",
        CREATE,
        creating(lastName="<", attributes={"city": ["Old Town"]}),
        DeadLetter,
        Reason.INVALID_DATA,
        ("city", "lastName"),
    ),
    (
        "error-user-attribute-read-only",
        UPDATE,
        updating(attributes={"badge": ["1"]}),
        DeadLetter,
        Reason.ATTRIBUTE_READ_ONLY,
        ("badge",),
    ),
    (
        "updateReadOnlyAttributesRejectedMessage",
        CREATE,
        creating(attributes={"LDAP_ID": ["1"]}),
        DeadLetter,
        Reason.ATTRIBUTE_READ_ONLY,
        ("LDAP_ID",),
    ),
    (
        "updateReadOnlyAttributesRejectedMessage",
        UPDATE,
        updating(attributes={"createTimestamp": ["20260101000000Z"]}),
        DeadLetter,
        Reason.ATTRIBUTE_READ_ONLY,
        ("createTimestamp",),
    ),
    (
        "User name is missing",
        CREATE,
        no_name_where_addresses_are_names,
        DeadLetter,
        Reason.INVALID_DATA,
        (),
    ),
    (
        "invalidPassword",
        RESET,
        resetting({"type": "password", "value": "abc"}),
        DeadLetter,
        Reason.PASSWORD_POLICY,
        (),
    ),
    (
        "invalidPasswordHistoryMessage",
        RESET,
        resetting(PASSWORD, PASSWORD),
        DeadLetter,
        Reason.PASSWORD_HISTORY,
        (),
    ),
    (
        "Empty password not allowed",
        RESET,
        resetting({"type": "password", "value": ""}),
        DeadLetter,
        Reason.PASSWORD_POLICY,
        (),
    ),
    ("No password provided", RESET, resetting({}), DeadLetter, Reason.PASSWORD_POLICY, ()),
    (
        "Cannot access organization related group",
        Operation.JOIN_GROUP,
        joining_a_group_of_an_organization,
        DeadLetter,
        Reason.GROUP_MISSING,
        (),
    ),
    (
        "Cannot manage organization related group",
        Operation.GROUP,
        reading_a_group_of_an_organization,
        DeadLetter,
        Reason.GROUP_MISSING,
        (),
    ),
    ("unexplained", UPDATE, updating(lastName="𠮷田"), Retry, Reason.UNEXPLAINED_REFUSAL, ()),
    ("server error", CREATE, creating(lastName="𠮷田"), Retry, Reason.SERVER_ERROR, ()),
    ("401", CREATE, with_a_token_that_is_none, Defer, Reason.TOKEN_REFUSED, ()),
    ("403", CREATE, without_a_role, Defer, Reason.FORBIDDEN, ()),
    ("Realm not found.", Operation.FIND, in_a_realm_that_is_not, Defer, Reason.REALM_MISSING, ()),
    (
        "Unable to find matching target resource method",
        Operation.FIND,
        under_a_path_that_is_not,
        Defer,
        Reason.WRONG_PATH,
        (),
    ),
    ("Realm does not exist", TOKEN, token_of_a_realm_that_is_not, Defer, Reason.REALM_MISSING, ()),
    ("refused credentials", TOKEN, token_by_a_wrong_secret, Defer, Reason.CREDENTIALS_REFUSED, ()),
    ("Realm not enabled", TOKEN, token_of_a_disabled_realm, Defer, Reason.REALM_DISABLED, ()),
]

NOT_HERE: dict[str, str] = {
    "Could not modify attribute for DN [": "a directory says it: test_federations_on_keycloak.py has one",
    # No Keycloak of ours can be brought to these.
    **dict.fromkeys(
        (
            "User is read only!",
            "readOnlyUserMessage",
            "Can't reset password as account is read only",
            "Federated storage is not writable",
            "user is read only for this update",
            "The user is read-only.",
        ),
        "users of a directory only: this realm has none",
    ),
    "408": "a proxy's: Keycloak answers no request late with it",
    "429": "a gateway's: Keycloak itself has no limit of requests",
    "502": "a proxy's",
    "504": "a proxy's",
    "503": "Keycloak's own while it boots, and with a full queue: other tests would meet it too",
}


def _keys() -> set[str]:
    return {
        *classify.REFUSALS,
        *(prefix for prefix, _ in classify.REFUSAL_PREFIXES),
        *classify.CONFLICTS,
        *classify.MISSING,
        *classify.NO_SUCH_REALM,
        *classify.TOKEN_REFUSALS,
        *(str(status) for status in (*classify.BY_STATUS, *classify.BARRED)),
    }


@pytest.mark.parametrize(
    ("operation", "said", "kind", "reason", "fields"),
    [pytest.param(*row[1:], id=f"{row[0]}-{place}") for place, row in enumerate(ROWS)],
)
async def test_keycloak_answers_as_the_table_says(
    realm: Realm,
    operation: Operation,
    said: Said,
    kind: type[NotDelivered],
    reason: Reason,
    fields: tuple[str, ...],
) -> None:
    response = await said(realm)

    answer = Answer(
        status=response.status_code,
        body=response.content,
        content_type=response.headers.get("Content-Type"),
    )
    outcome = classify.classify_answer(operation, answer, datetime.now(UTC))
    assert (type(outcome), outcome.reason) == (kind, reason), response.text
    # Keycloak lists several errors in no order.
    assert tuple(sorted(outcome.failure.fields)) == fields
    assert outcome.failure.own_words


def test_every_row_is_tried_or_has_a_reason_why_not() -> None:
    tried = {row[0] for row in ROWS}

    assert _keys() <= tried | NOT_HERE.keys()
    assert not tried & NOT_HERE.keys()
