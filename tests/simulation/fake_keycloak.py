"""Keycloak's Admin API for users, as a state machine: a request in, an answer out, nothing else.

It knows no network, no time but what it is told, and no simulation, so that one suite holds it to the real server, bodies
included (tests/conformance); groups and roles are as docs/decisions/0025 and tests/integration/delivery saw them. The user
profile is Keycloak's default, with unmanaged attributes allowed.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

__all__ = ["ACTIONS", "SERVICE_ACCOUNT", "FakeKeycloak", "Reply", "Request", "User"]

_ROUTE = re.compile(
    r"/?admin/realms/(?P<realm>[^/]+)/users(?:/(?P<id>[^/]+)(?:/(?P<part>credentials|reset-password|logout|sessions"
    r"|role-mappings/realm|groups)(?:(?<=groups)/(?P<group>[^/]+))?)?)?"
)
_NAMES_ROUTE = re.compile(
    r"/?admin/realms/(?P<realm>[^/]+)/(?:group-by-path(?P<path>/.+)|roles/(?P<role>[^/]+)"
    r"|groups(?:/(?P<parent>[^/]+)/children)?(?P<groups>)|(?P<actions>authentication/required-actions))"
)
_REALM_ROUTE = re.compile(r"/?admin/realms/(?P<realm>[^/]+)")
_DISCOVERY = re.compile(r"/realms/(?P<realm>[^/]+)/\.well-known/openid-configuration")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_FORBIDDEN_IN_NAMES = re.compile(r"[<>&\"\s$%!#?§;*~/\\|^=\[\]{}()\x00-\x1f]")
ACTIONS = frozenset(
    {"CONFIGURE_TOTP", "TERMS_AND_CONDITIONS", "UPDATE_PASSWORD", "UPDATE_PROFILE", "VERIFY_EMAIL"}
)
"""The aliases that are kept; others are dropped without a word."""
_DECLARED = [
    {"name": name, "permissions": {"view": ["admin", "user"], "edit": ["admin", "user"]}}
    for name in ("username", "email", "firstName", "lastName")
]
_KNOWN_FIELDS = frozenset(
    {
        "id",
        "username",
        "email",
        "emailVerified",
        "firstName",
        "lastName",
        "enabled",
        "attributes",
        "credentials",
        "requiredActions",
        "createdTimestamp",
    }
)


SERVICE_ACCOUNT = "service-account"
"""Id of the user of whoever asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked. `path` is percent-encoded, `query` is not."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class _Hash:
    """A password that somebody else hashed by Argon2id, as its credential says."""

    def __init__(self, credential: Mapping[str, Any]) -> None:
        numbers, secret = json.loads(credential["credentialData"]), json.loads(credential["secretData"])
        further = {name: values[0] for name, values in numbers["additionalParameters"].items()}
        self._digest = b64decode(secret["value"])
        self._hash = partial(
            Argon2id,
            salt=b64decode(secret["salt"]),
            length=int(further["hashLength"]),
            iterations=numbers["hashIterations"],
            lanes=int(further["parallelism"]),
            memory_cost=int(further["memory"]),
        )

    def opens(self, password: str) -> bool:
        """Whether this is the password."""
        return self._hash().derive(password.encode()) == self._digest


Password = str | _Hash


@dataclass(slots=True, kw_only=True)
class User:
    """One user. `password` is in clear: nobody is protected by a fake."""

    id: str
    username: str
    email: str | None = None
    email_verified: bool = False
    first_name: str | None = None
    last_name: str | None = None
    enabled: bool = False
    made_at: int = 0
    attributes: dict[str, list[str]] = field(default_factory=dict)
    required_actions: list[str] = field(default_factory=list)
    password: Password | None = field(default=None, repr=False)
    password_set_at: int = 0
    former_passwords: list[tuple[Password, int]] = field(default_factory=list, repr=False)
    groups: set[str] = field(default_factory=set)
    realm_roles: set[str] = field(default_factory=set)
    sessions: list[int] = field(default_factory=list)

    def brief(self) -> dict[str, Any]:
        """As a search with `briefRepresentation` shows it."""
        known = {
            "id": self.id,
            "username": self.username,
            "firstName": self.first_name,
            "lastName": self.last_name,
            "email": self.email,
            "emailVerified": self.email_verified,
            "enabled": self.enabled,
            "createdTimestamp": self.made_at,
        }
        return {name: value for name, value in known.items() if value is not None}

    def whole(self) -> dict[str, Any]:
        """As a read by id shows it."""
        shown = {**self.brief(), "requiredActions": sorted(self.required_actions)}
        if self.attributes:
            shown["attributes"] = {name: list(values) for name, values in self.attributes.items()}
        return shown


class FakeKeycloak:
    """The users of some realms.

    Args:
        realms: Their names.
        password_history: How many former passwords, the present one included, are refused; 0 for no such policy.
        password_length: The fewest characters of a password; 0 for no such policy.
        groups: Paths of the groups of each realm, with their parents; `~/` stands for a slash in a name.
        realm_roles: Names of the realm roles of each realm.
        rights: Which groups have a role of realm-management, and which roles are composite.
        escapes_slashes: Whether paths are shown with `~/` for a slash in a name.
    """

    def __init__(
        self,
        realms: frozenset[str],
        *,
        password_history: int = 0,
        password_length: int = 0,
        groups: frozenset[str] = frozenset(),
        realm_roles: frozenset[str] = frozenset(),
        rights: frozenset[str] = frozenset(),
        escapes_slashes: bool = False,
    ) -> None:
        self.groups = set(groups)
        self.realm_roles = set(realm_roles)
        self._rights = rights
        self._escapes_slashes = escapes_slashes
        self.email_as_username = False
        self.edit_username_allowed = False
        self.users: dict[str, dict[str, User]] = {realm: {} for realm in realms}
        self._password_history = password_history
        self._password_length = password_length
        self._made = 0

    def find(self, realm: str, username: str) -> User | None:
        """The user of this name."""
        return next((user for user in self.users[realm].values() if user.username == username.lower()), None)

    def logs_in(self, realm: str, username: str, password: str) -> bool:
        """Whether this password opens the door."""
        user = self.find(realm, username)
        return (
            user is not None
            and user.enabled
            and user.password is not None
            and _opens(user.password, password)
        )

    def begin_session(self, realm: str, username: str, password: str, now_ms: int) -> bool:
        """Log in; whether that was let through. Nobody of whom something is required is."""
        user = self.find(realm, username)
        if user is None or user.required_actions or not self.logs_in(realm, username, password):
            return False
        user.sessions.append(now_ms)
        return True

    # What users do about themselves, in their account and on the pages of a login.

    def choose_password(self, user: User, old: str, new: str, now_ms: int) -> None:
        """Give oneself another password: if nobody has barred the account, and nothing else is required before."""
        before = {*user.required_actions} - {"UPDATE_PASSWORD"}
        if user.enabled and not before and user.password is not None and _opens(user.password, old):
            self._set_password(user, new, now_ms, temporary=False)

    def confirm_address(self, user: User) -> None:
        """Follow the link that was sent to the address."""
        if user.enabled and user.email is not None:
            user.email_verified = True
            self.do_what_is_required(user, "VERIFY_EMAIL")

    @staticmethod
    def do_what_is_required(user: User, action: str) -> None:
        """Do one thing that is required at the login: it is required no longer, all else still is."""
        if user.enabled:
            user.required_actions = [each for each in user.required_actions if each != action]

    @staticmethod
    def edit_profile(user: User, name: str, value: str) -> None:
        """Change one's name, or an attribute that users may edit; an empty text clears it."""
        if not user.enabled:
            return
        if name in {"first_name", "last_name"}:
            setattr(user, name, value or None)
        elif value:
            user.attributes[name] = [value]
        else:
            user.attributes.pop(name, None)

    def answer(self, request: Request, now_ms: int) -> Reply:
        """Answer one request at a moment of Keycloak's clock, in milliseconds since 1970."""
        route = _ROUTE.fullmatch(request.path)
        if route is None:
            return self._beside_users(request)
        users = self.users.get(unquote(route["realm"]))
        if users is None:
            return _error(404, "Realm not found.")
        if route["id"] is None:
            if request.method == "GET":
                return self._search(users, request.query)
            return self._create_from(unquote(route["realm"]), users, request.body, now_ms)
        if route["id"] == "profile":
            return _json(200, {"attributes": _DECLARED, "unmanagedAttributePolicy": "ADMIN_EDIT"})
        if (route["id"], route["part"]) == (SERVICE_ACCOUNT, "logout"):
            # The client's own user, in no search and without sessions: only that it was asked is written.
            return Reply(204)
        user = users.get(unquote(route["id"]))
        if user is None:
            return _error(404, "User not found")
        if route["group"] is not None:
            return self._move(user, unquote(route["group"]), joins=request.method == "PUT")
        return self._of_user(request, route["part"], users, user, now_ms)

    def _beside_users(self, request: Request) -> Reply:
        if (discovered := _DISCOVERY.fullmatch(request.path)) is not None:
            return self._discovery(discovered["realm"])
        if (named := _NAMES_ROUTE.fullmatch(request.path)) is not None:
            return self._named(named, request.query)
        if (of_realm := _REALM_ROUTE.fullmatch(request.path)) is not None:
            return self._realm(unquote(of_realm["realm"]))
        return _error(404, "HTTP 404 Not Found")

    def _realm(self, realm: str) -> Reply:
        """As a client with `manage-users` sees it."""
        if realm not in self.users:
            return _error(404, "Realm not found.")
        return _json(200, {"realm": realm, "registrationEmailAsUsername": self.email_as_username})

    def _shown_whole(self, user: User, query: Mapping[str, str]) -> dict[str, Any]:
        shown = {**user.whole(), **self._shown_name(user)}
        if query.get("userProfileMetadata", "").lower() != "true":
            return shown
        by_address = self.email_as_username
        name = {
            "name": "username",
            "required": not by_address,
            "readOnly": by_address or not self.edit_username_allowed,
        }
        return {**shown, "userProfileMetadata": {"attributes": [name]}}

    def _shown_name(self, user: User) -> dict[str, Any]:
        """Where addresses are usernames, a user is shown by theirs, also one who has another name still."""
        return {"username": user.email if self.email_as_username and user.email else user.username}

    def _discovery(self, realm: str) -> Reply:
        if unquote(realm) not in self.users:
            return _error(404, "Realm does not exist")
        document = {"issuer": f"http://keycloak.test/realms/{realm}"}
        return Reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _create_from(self, realm: str, users: dict[str, User], body: str, now_ms: int) -> Reply:
        try:
            return self._create(realm, users, json.loads(body), now_ms)
        except json.JSONDecodeError:
            return _error(400, "invalid_request", "Cannot parse the JSON")

    def _of_user(
        self, request: Request, part: str | None, users: dict[str, User], user: User, now_ms: int
    ) -> Reply:
        match request.method, part:
            case "GET", None:
                return _json(200, self._shown_whole(user, request.query))
            case "PUT", None:
                return self._update(users, user, json.loads(request.body), now_ms)
            case "DELETE", None:
                del users[user.id]
                return Reply(204)
            case "GET", "credentials":
                return _json(200, self._credentials(user))
            case "PUT", "reset-password":
                return self._reset(user, json.loads(request.body), now_ms)
            case "GET", "sessions":
                return _json(200, [{"id": str(start), "start": start} for start in user.sessions])
            case "POST", "logout":
                user.sessions.clear()
                return Reply(204)
            case "GET", "groups":
                return _json(
                    200, [{"id": _id(each), "path": self._shown(each)} for each in sorted(user.groups)]
                )
            case _, "role-mappings/realm":
                return self._map_roles(request, user)
        return _error(405, "HTTP 405 Method Not Allowed")

    def _named(self, route: re.Match[str], query: Mapping[str, str]) -> Reply:
        if route["actions"] is not None:
            return _json(200, [{"alias": alias} for alias in sorted(ACTIONS)])
        if route["role"] is not None:
            name = unquote(route["role"])
            if name not in self.realm_roles:
                return _error(404, "Could not find role")
            return _json(200, {"id": _id(name), "name": name, "composite": name in self._rights})
        if route["groups"] is not None:
            return self._search_groups(route["parent"], query)
        path = unquote(route["path"])
        asked = _names_of(path) if self._escapes_slashes else tuple(path[1:].split("/"))
        group = self._follow("", asked)
        return _error(404, "Group path does not exist") if group is None else self._show_group(group)

    def _follow(self, parent: str, asked: tuple[str, ...]) -> str | None:
        """The group to which names lead, each perhaps a part of one. The first that there is, is taken for good."""
        if not asked:
            return parent or None
        for end in range(1, len(asked) + 1):
            name = "/".join(asked[:end])
            # As MariaDB compares texts.
            child = next(
                (each for each in self.groups if _is_child(each, parent, name.lower().rstrip(" "))), None
            )
            if child is not None:
                return self._follow(child, asked[end:])
        return None

    def _search_groups(self, parent: str | None, query: Mapping[str, str]) -> Reply:
        """Those below one parent, or all, flat; `%` and `_` stand for any text and letter, also in an exact search."""
        text = re.escape(query["search"]).replace("%", ".*").replace("_", ".")
        wanted = re.compile(text if query.get("exact") == "true" else f".*{text}.*", re.IGNORECASE)
        found = [
            self._show_group(each)
            for each in sorted(self.groups)
            if wanted.fullmatch(_names_of(each)[-1])
            and (parent is None or _id(_parent_of(each)) == unquote(parent))
        ]
        first = int(query.get("first", "0"))
        page = found[first : first + int(query.get("max", "10"))]
        return _json(200, [json.loads(each.body) for each in page])

    def _show_group(self, group: str) -> Reply:
        shown: dict[str, Any] = {
            "id": _id(group),
            "name": _names_of(group)[-1],
            "path": self._shown(group),
            "realmRoles": [],
            "clientRoles": {"realm-management": ["manage-realm"]} if group in self._rights else {},
        }
        if parent := _parent_of(group):
            shown["parentId"] = _id(parent)
        return _json(200, shown)

    def _shown(self, group: str) -> str:
        return group if self._escapes_slashes else group.replace("~/", "/")

    def _move(self, user: User, group: str, *, joins: bool) -> Reply:
        path = next((path for path in self.groups if _id(path) == group), None)
        if path is None:
            return _error(404, "Group not found")
        if joins:
            user.groups.add(path)
        else:
            user.groups.discard(path)
        return Reply(204)

    def _map_roles(self, request: Request, user: User) -> Reply:
        if request.method == "GET":
            return _json(200, [{"id": _id(name), "name": name} for name in sorted(user.realm_roles)])
        named = {role["name"]: role["id"] for role in json.loads(request.body)}
        if any(name not in self.realm_roles or role != _id(name) for name, role in named.items()):
            return _error(404, "Role not found")
        if request.method == "POST":
            user.realm_roles |= named.keys()
        else:
            user.realm_roles -= named.keys()
        return Reply(204)

    def _search(self, users: Mapping[str, User], query: Mapping[str, str]) -> Reply:
        asked = "email" if "email" in query else "username"
        wanted = _plain(query.get(asked, ""))
        exact = query.get("exact", "false").lower() == "true"
        found = [
            {**user.brief(), **self._shown_name(user)}
            for user in users.values()
            for theirs in [_plain(getattr(user, asked) or "")]
            if (theirs == wanted if exact else wanted in theirs)
        ]
        return _json(200, found[: int(query.get("max", "100"))])

    def _create(self, realm: str, users: dict[str, User], asked: Mapping[str, Any], now_ms: int) -> Reply:
        username = str(asked.get("username", "")).lower()
        if (unknown := _unknown_field(asked)) is not None:
            return unknown
        if self.email_as_username and not asked.get("email"):
            return _json(400, _problem("email", "error-user-attribute-required"))
        username = str(asked["email"]).lower() if self.email_as_username else username
        if not username.strip():
            return _complaint(400, "User name is missing")
        # Keycloak looks for the email first: a create repeated word for word is told "same email".
        refused = (
            _email_conflict(users, asked.get("email"), None)
            or _name_conflict(users, username, asked.get("email"))
            or _invalid(asked, username)
        )
        if refused is not None:
            return refused
        for credential in asked.get("credentials") or ():
            if "value" in credential and (weak := self._weak(credential["value"])) is not None:
                return weak
        self._made += 1
        # Who makes a user may say when that was.
        made_at = asked.get("createdTimestamp") or now_ms
        user = User(id=f"00000000-0000-4000-8000-{self._made:012x}", username=username, made_at=made_at)
        self._write(user, {"enabled": False, **asked})
        for credential in asked.get("credentials") or ():
            self._take_along(user, credential, now_ms)
        users[user.id] = user
        return Reply(
            201, headers={"Location": f"http://keycloak/admin/realms/{quote(realm)}/users/{user.id}"}
        )

    def _update(self, users: Mapping[str, User], user: User, asked: Mapping[str, Any], now_ms: int) -> Reply:
        if (unknown := _unknown_field(asked)) is not None:
            return unknown
        name = str(asked.get("username", user.username)).lower()
        if self.email_as_username:
            if asked.get("email") == "":
                return _complaint(400, "User name is missing")
            if not (asked.get("email") or user.email):
                return _json(400, _problem("email", "error-user-attribute-required"))
            name = str(asked.get("email") or user.email).lower()
        elif name != user.username and not self.edit_username_allowed:
            return _json(400, _problem("username", "error-user-attribute-read-only"))
        if (conflict := _email_conflict(users, asked.get("email"), user)) is not None:
            return conflict
        if (invalid := _invalid(asked, user.username)) is not None:
            return invalid
        user.username = name
        if asked.get("attributes") is not None:
            # With attributes, what is not named is cleared.
            user.email = user.first_name = user.last_name = None
            user.attributes = {}
        self._write(user, asked)
        for credential in asked.get("credentials") or ():
            self._take_along(user, credential, now_ms)
        return Reply(204)

    def _take_along(self, user: User, credential: Mapping[str, Any], now_ms: int) -> None:
        """A password among the fields of a user: what is required of the user besides stays so, a new password too."""
        actions = {*user.required_actions, *(["UPDATE_PASSWORD"] if credential.get("temporary") else [])}
        password = _Hash(credential) if "secretData" in credential else credential["value"]
        self._set_password(user, password, now_ms, temporary=False)
        user.required_actions = sorted(actions)

    @staticmethod
    def _write(user: User, asked: Mapping[str, Any]) -> None:
        if asked.get("email") is not None:
            user.email = str(asked["email"]).lower() or None
        if asked.get("firstName") is not None:
            user.first_name = asked["firstName"] or None
        if asked.get("lastName") is not None:
            user.last_name = asked["lastName"] or None
        if asked.get("emailVerified") is not None:
            user.email_verified = asked["emailVerified"]
        if asked.get("enabled") is not None:
            user.enabled = asked["enabled"]
        if asked.get("requiredActions") is not None:
            user.required_actions = [alias for alias in asked["requiredActions"] if alias in ACTIONS]
        for name, values in (asked.get("attributes") or {}).items():
            if any(values):
                user.attributes[name] = [value for value in values if value]

    def _reset(self, user: User, asked: Mapping[str, Any], now_ms: int) -> Reply:
        password = asked.get("value")
        if password is None:
            return _error(400, "No password provided")
        if not str(password).strip():
            return _error(400, "Empty password not allowed")
        if (weak := self._weak(password)) is not None:
            return weak
        former = (old for old, _ in reversed(user.former_passwords))
        refused = [*([] if user.password is None else [user.password]), *former][: self._password_history]
        if any(_opens(kept, password) for kept in refused):
            return _error(
                400,
                "invalidPasswordHistoryMessage",
                f"Invalid password: must not be equal to any of last {self._password_history} passwords.",
            )
        self._set_password(user, password, now_ms, temporary=asked.get("temporary", False))
        return Reply(204)

    def _weak(self, password: str) -> Reply | None:
        if len(password) >= self._password_length:
            return None
        description = f"Invalid password: minimum length {self._password_length}."
        return _error(400, "invalidPasswordMinLengthMessage", description)

    def _credentials(self, user: User) -> list[dict[str, Any]]:
        if user.password is None:
            return []
        kept = max(0, self._password_history - 1)
        former = user.former_passwords[-kept:] if kept else []
        return [
            {"id": f"{user.id}-p", "type": "password", "createdDate": user.password_set_at},
            *(
                {"id": f"{user.id}-{date}", "type": "password-history", "createdDate": date}
                for _, date in former
            ),
        ]

    @staticmethod
    def _set_password(user: User, password: Password, now_ms: int, *, temporary: bool) -> None:
        if user.password is not None:
            user.former_passwords.append((user.password, user.password_set_at))
        user.password, user.password_set_at = password, now_ms
        others = [action for action in user.required_actions if action != "UPDATE_PASSWORD"]
        user.required_actions = [*others, "UPDATE_PASSWORD"] if temporary else others


def _opens(kept: Password, password: str) -> bool:
    return kept == password if isinstance(kept, str) else kept.opens(password)


def _names_of(group: str) -> tuple[str, ...]:
    """The names of a group and its parents."""
    return tuple(name.replace("~/", "/") for name in re.split("(?<!~)/", group)[1:])


def _parent_of(group: str) -> str:
    names = re.split("(?<!~)(?=/)", group)
    return "".join(names[:-1])


def _is_child(group: str, parent: str, name: str) -> bool:
    return _parent_of(group) == parent and _names_of(group)[-1].lower().rstrip(" ") == name


def _id(name: str) -> str:
    return f"00000000-0000-4000-9000-{zlib.crc32(name.encode()):012x}"


def _email_conflict(users: Mapping[str, User], email: str | None, but: User | None) -> Reply | None:
    """An address may be nobody's name either; that it differs from another in accents only, an update notices at once."""
    if not email:
        return None
    others = [user for user in users.values() if user is not but]
    if any(email.lower() in {user.email, user.username} for user in others):
        return _complaint(409, "User exists with same email")
    if but is not None and any(_plain(email) == _plain(user.email or "") for user in others):
        return _complaint(409, "User exists with same username or email")
    return None


def _name_conflict(users: Mapping[str, User], name: str, email: str | None) -> Reply | None:
    """Of a new user's name, which may be nobody's address either; what differs in accents only, the database refuses."""
    if any(name in {user.email, user.username} for user in users.values()):
        return _complaint(409, "User exists with same username")
    if any(_plain(name) == _plain(user.username) for user in users.values()):
        return _complaint(409, "User exists with same username or email")
    if email and any(_plain(email) == _plain(user.email or "") for user in users.values()):
        return _error(409, "conflict", "Duplicate resource error")
    return None


def _plain(text: str) -> str:
    """A text as MariaDB compares it: without case and accents."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def _invalid(asked: Mapping[str, Any], username: str) -> Reply | None:
    wrong = []
    if not 3 <= len(username) <= 255:
        wrong.append(_problem("username", "error-invalid-length", 3, 255))
    if _FORBIDDEN_IN_NAMES.search(username):
        wrong.append(_problem("username", "error-username-invalid-character"))
    if asked.get("email") and not _EMAIL.fullmatch(asked["email"]):
        wrong.append(_problem("email", "error-invalid-email", asked["email"]))
    if not wrong:
        return None
    return _json(400, wrong[0] if len(wrong) == 1 else {"errors": wrong})


def _problem(field_name: str, message: str, *params: object) -> dict[str, Any]:
    return {"field": field_name, "errorMessage": message, "params": [field_name, *params]}


def _unknown_field(asked: Mapping[str, Any]) -> Reply | None:
    unknown = sorted(asked.keys() - _KNOWN_FIELDS)
    if not unknown:
        return None
    said = f'Invalid json representation for UserRepresentation. Unrecognized field "{unknown[0]}" at line 1.'
    return _error(400, said)


def _json(status: int, body: Any) -> Reply:
    return Reply(
        status, json.dumps(body, separators=(",", ":")).encode(), {"Content-Type": "application/json"}
    )


def _error(status: int, error: str, description: str | None = None) -> Reply:
    body = {"error": error} if description is None else {"error": error, "error_description": description}
    return _json(status, body)


def _complaint(status: int, message: str) -> Reply:
    return _json(status, {"errorMessage": message})
