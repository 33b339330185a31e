"""The changes an application can make to a user, and the event each becomes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, TypeAlias

from producer_lib._contract import event_type
from producer_lib._errors import InvalidEvent
from producer_lib._prehashed import PrehashedPassword
from producer_lib._sealing import SealedPassword

AttributesMode: TypeAlias = Literal["merge", "replace"]


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UserChange:
    """What every change has.

    Attributes:
        username: Whose change it is, 3 to 255 characters in any case.
        realm: The Keycloak realm. None: the Producer's.
        tenant: A label for grouping, such as a customer. None: none.
        priority: 1 (most urgent) to 10; which user goes first, never the order of one user's changes. None: by kind.
        event_id: Identifies the event together with the Producer's source: published twice, it is applied once. Give a stable one
            where your application may repeat a change after a crash.
        time: When the change was made, with its offset. It informs; the order comes from Kafka.
    """

    kind: ClassVar[str]

    username: str
    realm: str | None = None
    tenant: str | None = None
    priority: int | None = None
    event_id: str = field(default_factory=_new_id)
    time: datetime = field(default_factory=_now)

    def __repr__(self) -> str:
        # A password must not reach a log through a repr.
        shown = (
            f"{item.name}={'***' if item.name == 'password' else repr(value)}"
            for item in fields(self)
            if (value := getattr(self, item.name)) is not None
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a user joins and leaves. What is in neither list stays as it is; nothing is in both.

    Attributes:
        add: What the user has afterwards.
        remove: What the user does not have afterwards.
    """

    add: Sequence[str] = ()
    remove: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UserCreate(UserChange):
    """A user shall exist. If the user exists already, it gets these values.

    Attributes:
        email: The e-mail address.
        email_verified: Whether Keycloak shall trust it.
        first_name: Not beside `name`.
        last_name: Not beside `name`.
        name: First and last name in one text.
        enabled: Whether the user may log in. None: the consumer's default, which is yes.
        attributes: Keycloak's attributes, a list of texts each.
        attributes_mode: Of a user who exists already: whether attributes that are not named stay (`merge`, None) or go.
        clear: Fields of a user who exists already that shall be empty: see `UserUpdate`.
        required_actions: What the user must do at the next login, by Keycloak's aliases, such as `VERIFY_EMAIL`.
        groups: Groups by path.
        realm_roles: Realm roles by name.
        password: In clear, sealed (or hashed and sealed, as the Producer is told) when published; hashed already; or
            sealed already, for this event id.
    """

    kind: ClassVar[str] = "user_create"

    email: str | None = None
    email_verified: bool | None = None
    first_name: str | None = None
    last_name: str | None = None
    name: str | None = None
    enabled: bool | None = None
    attributes: Mapping[str, Sequence[str]] | None = None
    attributes_mode: AttributesMode | None = None
    clear: Sequence[str] | None = None
    required_actions: Sequence[str] | None = None
    groups: Membership | None = None
    realm_roles: Membership | None = None
    password: str | PrehashedPassword | SealedPassword | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UserUpdate(UserChange):
    """The named fields change; None leaves a field as it is. At least one must be named.

    Attributes:
        email: The e-mail address.
        email_verified: Whether Keycloak shall trust it.
        first_name: Not beside `name`.
        last_name: Not beside `name`.
        name: First and last name in one text.
        enabled: Whether the user may log in. True also lifts a lockout after failed logins: name it only when you mean it.
        attributes: The named attributes get these values.
        attributes_mode: Whether attributes that are not named stay (`merge`, None) or go (`replace`).
        clear: Fields that shall be empty: `email`, `first_name`, `last_name`, `attributes.<name>`.
        required_actions: What the user must do at the next login, by Keycloak's aliases, such as `VERIFY_EMAIL`. They replace
            those there are; an empty list takes them away.
        groups: Groups by path; a group that is not named stays as it is.
        realm_roles: Realm roles by name; a role that is not named stays as it is.
        end_sessions: Whether the user is logged out everywhere. Only beside `enabled=False`.
    """

    kind: ClassVar[str] = "user_update"

    email: str | None = None
    email_verified: bool | None = None
    first_name: str | None = None
    last_name: str | None = None
    name: str | None = None
    enabled: bool | None = None
    attributes: Mapping[str, Sequence[str]] | None = None
    attributes_mode: AttributesMode | None = None
    clear: Sequence[str] | None = None
    required_actions: Sequence[str] | None = None
    groups: Membership | None = None
    realm_roles: Membership | None = None
    end_sessions: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PasswordChange(UserChange):
    """The user has a new password.

    Attributes:
        password: In clear, sealed (or hashed and sealed, as the Producer is told) when published; hashed already; or
            sealed already, for this event id.
        temporary: Whether the user must choose another one at the next login.
        end_sessions: Whether the user is logged out everywhere; with the old password alone nobody logs in again.
    """

    kind: ClassVar[str] = "password_change"

    password: str | PrehashedPassword | SealedPassword
    temporary: bool = False
    end_sessions: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UserDelete(UserChange):
    """The user goes.

    Attributes:
        mode: `delete` or `disable`. None: what the consumer is configured to do.
        reason: One line for those who ask later.
        end_sessions: Whether the applications where the user is logged in are told to log them out.
    """

    kind: ClassVar[str] = "user_delete"

    mode: str | None = None
    reason: str | None = None
    end_sessions: bool | None = None


_ENVELOPE: Final = frozenset(item.name for item in fields(UserChange))


def as_event(
    change: UserChange, *, source: str, realm: str, password: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the CloudEvents message of a change of our own kinds. A password in clear never enters it.

    Args:
        change: The change.
        source: Who publishes it.
        realm: Where the user lives.
        password: The password as the contract writes it, sealed; None for a change without one.

    Raises:
        InvalidEvent: `time` is no datetime with an offset.
    """
    data = {
        item.name: value
        for item in fields(change)
        if item.name not in _ENVELOPE
        and item.name != "password"
        and (value := getattr(change, item.name)) is not None
    }
    if isinstance(attributes := data.get("attributes"), Mapping):
        data["attributes"] = {name: _listed(values) for name, values in attributes.items()}
    for name in ("clear", "required_actions"):
        if name in data:
            data[name] = _listed(data[name])
    for name in ("groups", "realm_roles"):
        if isinstance(membership := data.get(name), Membership):
            both = {"add": membership.add, "remove": membership.remove}
            data[name] = {side: _listed(named) for side, named in both.items() if named}
    if password is not None:
        data["password"] = dict(password)
    return as_message(change, type_=event_type(change.kind), data=data, source=source, realm=realm)


def _listed(values: Any) -> Any:
    """Turn any sequence but a text into the list that JSON has; what is none is the schema's to refuse."""
    return values if isinstance(values, str) or not isinstance(values, Sequence) else list(values)


def as_message(
    change: UserChange, *, type_: str, data: Mapping[str, Any], source: str, realm: str
) -> dict[str, Any]:
    """Return the CloudEvents message of a change of any kind.

    Raises:
        InvalidEvent: `time` is no datetime with an offset.
    """
    if not isinstance(change.time, datetime) or change.time.tzinfo is None:
        raise InvalidEvent("time", "must be a datetime with an offset: datetime.now(UTC), not datetime.now()")
    extensions = {"tenant": change.tenant, "priority": change.priority}
    return {
        "specversion": "1.0",
        "id": change.event_id,
        "source": source,
        "type": type_,
        "subject": change.username,
        "time": change.time.isoformat(),
        "datacontenttype": "application/json",
        "realm": realm,
        **{name: value for name, value in extensions.items() if value is not None},
        "data": data,
    }
