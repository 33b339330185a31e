"""What a delivery attempt came to.

Outcome
  Delivered    Keycloak is as the change wants it
  Retry        try again later; the drain decides whether the entry is charged with an attempt
  Defer        try again later, never charged: it is not this change's fault
  DeadLetter   no repetition can help

Each carries a reason code, and all but `Delivered` a `Failure`: whom it speaks about and whether the change may have
taken effect all the same. `name` is what attempts and, in lower case, spans call it: stored and shown, it does not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from consumer.frozen import quick_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DETAIL_LIMIT = 2048
"""Longest `Failure.detail`, in characters; the attempt's row in the outbox holds no more."""


class Reason(StrEnum):
    """Why an attempt came to its outcome. The values are stored and shown: they do not change."""

    # Delivered
    CREATED = "created"
    CONVERGED = "converged"
    UPDATED = "updated"
    PASSWORD_SET = "password_set"  # noqa: S105 - a reason code, not a password.
    DELETED = "deleted"
    DISABLED = "disabled"
    ALREADY_ABSENT = "already_absent"
    ALREADY_APPLIED = "already_applied"
    HEALED = "healed"
    AS_DELIVERED = "as_delivered"
    LEFT_AS_FOUND = "left_as_found"
    RESTORED = "restored"

    # A definite answer about this one user
    EMAIL_IN_USE = "email_in_use"
    USERNAME_IN_USE = "username_in_use"
    CONFLICT = "conflict"
    UNEXPLAINED_REFUSAL = "unexplained_refusal"
    INVALID_DATA = "invalid_data"
    PASSWORD_POLICY = "password_policy"  # noqa: S105 - a reason code.
    PASSWORD_HISTORY = "password_history"  # noqa: S105 - a reason code.
    HEAL_REFUSED_BY_HISTORY = "heal_refused_by_history"
    PROFILE_BROKEN = "profile_broken"
    USER_MISSING = "user_missing"
    USER_LOST = "user_lost"
    RENAMED = "renamed"
    WOULD_RENAME = "would_rename"
    NOT_APPLIED = "not_applied"
    USER_READ_ONLY = "user_read_only"
    ATTRIBUTE_READ_ONLY = "attribute_read_only"
    DIRECTORY_REFUSED = "directory_refused"
    BACK_FROM_DIRECTORY = "back_from_directory"
    HASH_NOT_FOR_DIRECTORY = "hash_not_for_directory"
    USER_PROTECTED = "user_protected"
    GROUP_MISSING = "group_missing"
    GROUP_AMBIGUOUS = "group_ambiguous"
    ROLE_MISSING = "role_missing"
    REQUIRED_ACTION_MISSING = "required_action_missing"
    GRANT_REFUSED = "grant_refused"

    # About Keycloak
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_LOST = "connection_lost"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    STARTING = "starting"
    THROTTLED = "throttled"
    WRITES_REFUSED = "writes_refused"
    GARBLED_ANSWER = "garbled_answer"

    # About a user federation of the realm
    DIRECTORY_UNAVAILABLE = "directory_unavailable"
    FEDERATION_DISABLED = "federation_disabled"
    TWO_USERS = "two_users"

    # About how we are set up
    TLS_FAILED = "tls_failed"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_OF_ANOTHER = "certificate_of_another"
    CLIENT_CERTIFICATE_REFUSED = "client_certificate_refused"
    CREDENTIALS_REFUSED = "credentials_refused"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a reason code.
    ADMIN_SCOPE_MISSING = "admin_scope_missing"
    FORBIDDEN = "forbidden"
    REALM_MISSING = "realm_missing"
    REALM_DISABLED = "realm_disabled"
    WRONG_PATH = "wrong_path"
    GATEWAY_REFUSED = "gateway_refused"
    REALM_NOT_SERVED = "realm_not_served"
    REDIRECTED = "redirected"
    NOT_KEYCLOAK = "not_keycloak"
    UNEXPECTED_SUCCESS = "unexpected_success"
    UNEXPECTED_ANSWER = "unexpected_answer"

    # About this process
    KIND_UNREGISTERED = "kind_unregistered"
    ROLES_UNREADABLE = "roles_unreadable"
    BROKEN_OFF = "broken_off"
    UNKNOWN_SEALING_KEY = "unknown_sealing_key"
    PASSWORD_UNREADABLE = "password_unreadable"  # noqa: S105 - a reason code.
    INTERNAL_ERROR = "internal_error"


NEEDS_REPAIR = frozenset({Reason.PROFILE_BROKEN})
"""What only a repair in Keycloak ends, and a repair does end: an entry does not grow old while it waits for it."""

OUTAGE: Final = frozenset(
    {
        Reason.CONNECTION_FAILED,
        Reason.CONNECTION_LOST,
        Reason.TIMEOUT,
        Reason.SERVER_ERROR,
        Reason.BAD_GATEWAY,
        Reason.UNAVAILABLE,
        Reason.STARTING,
        Reason.GARBLED_ANSWER,
        Reason.UNEXPLAINED_REFUSAL,
    }
)
"""Failures that are over when Keycloak is back, as far as it was their cause: a database that takes no writes refuses without
a reason. Who was throttled waits as long as was asked."""

TAKEN: Final = frozenset({Reason.EMAIL_IN_USE, Reason.USERNAME_IN_USE, Reason.CONFLICT})
"""Reasons that may mean that another user has the name or the e-mail address that is asked for."""


OF_A_FEDERATION: Final = frozenset(
    {Reason.DIRECTORY_UNAVAILABLE, Reason.FEDERATION_DISABLED, Reason.TWO_USERS}
)
"""What a user's federation keeps them waiting for: an outage of its own, however well Keycloak is."""


class Blame(StrEnum):
    """Whom a failure speaks about."""

    USER = "user"
    """A definite answer about this one user. It also says that Keycloak is available."""
    KEYCLOAK = "keycloak"
    """Keycloak, or the way to it. Counts for the circuit."""
    UNCLEAR = "unclear"
    """This one user, or Keycloak as a whole: it does not say. Only whether it takes writes tells."""
    CONFIGURATION = "configuration"
    """How this consumer, its client or a proxy is set up; the realm's fault if its control call fails too."""
    LOCAL = "local"
    """This process or its keys. Counts for nobody."""
    FEDERATION = "federation"
    """A user federation of the realm, or the directory behind it: the trouble of its users alone. Counts for nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call did not do what it should.

    Attributes:
        blame: Whom it speaks about.
        status: The HTTP status, or None if no answer came.
        ambiguous: The change may have taken effect all the same, or may do so later inside Keycloak.
        restoring: A user whom Keycloak had lost was about to be made again: they may be there, and not whole.
        partial: An earlier request of the same delivery was done: part of the change is in Keycloak.
        own_words: Keycloak itself has answered, in one of its own forms; not a proxy, and not nobody.
        fields: The user's fields that were refused, as Keycloak calls them.
        beyond_plane: Places of the event that hold characters beyond Unicode's basic plane, if Keycloak gave the same
            unexplained answer to the change twice.
        detail: One line for people, without usernames, e-mail addresses or secrets; at most `DETAIL_LIMIT` characters.
        holder: The username of the other user who has the name or the e-mail address that was asked for, as Keycloak stores
            it; None where it is not known, or about nothing of the kind. For MariaDB and the command line: never shown elsewhere.
    """

    blame: Blame
    status: int | None = None
    ambiguous: bool = False
    partial: bool = False
    restoring: bool = False
    own_words: bool = False
    fields: tuple[str, ...] = ()
    beyond_plane: tuple[str, ...] = ()
    detail: str = ""
    holder: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.detail) > DETAIL_LIMIT:
            object.__setattr__(self, "detail", self.detail[: DETAIL_LIMIT - 1] + "…")


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Keycloak is as the change wants it.

    Attributes:
        reason: Which way it got there.
        user_id: Keycloak's id of the user, or None if it is gone.
        existed: Whether Keycloak had the user before.
        credential_date: Keycloak's own date of the password, if it was read anyway (UTC).
        anew: The user is another than the one of whom was known: what was known does not hold for them.
        dropped: Attributes that the change names and Keycloak has not kept, each with the reason.
        federation: The id of the user federation the user comes from, if it was seen that they come from one.
        wrote: What the handler of a custom kind set of the user, as the data of a `user_update` would say it. It is
            kept, and written again where a user is healed or restored. Handlers of our own kinds leave it out.
        drift: Of a heal: what it found that others have changed, and left; the names of fields, each with what was found.
    """

    name: ClassVar[str] = "DELIVERED"

    reason: Reason
    user_id: str | None
    existed: bool
    credential_date: datetime | None = None
    anew: bool = False
    dropped: Mapping[str, str] = field(default_factory=dict)
    federation: str | None = None
    wrote: Mapping[str, Any] | None = field(default=None, repr=False)
    drift: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again later. The drain decides whether the entry is charged with an attempt."""

    name: ClassVar[str] = "RETRY"

    reason: Reason
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """Try again later without charging an attempt.

    Attributes:
        reason: What stands in the way.
        failure: Whom it speaks about.
        not_before_seconds: The pause that Keycloak asked for, from now, or None if it asked for none.
    """

    name: ClassVar[str] = "DEFER"

    reason: Reason
    failure: Failure
    not_before_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """No repetition can help; the entry waits for an operator."""

    name: ClassVar[str] = "DEAD_LETTER"

    reason: Reason
    failure: Failure


NotDelivered = Retry | Defer | DeadLetter
Outcome = Delivered | NotDelivered


def lost_user() -> DeadLetter:
    """The outcome of a change to somebody whom our own deliveries left, and whom somebody else has deleted."""
    detail = "the user was delivered, and is not in Keycloak any more: somebody else has deleted them"
    return DeadLetter(reason=Reason.USER_LOST, failure=Failure(blame=Blame.USER, status=404, detail=detail))


def missing_user() -> DeadLetter:
    """The outcome of a change to somebody whom Keycloak does not have."""
    failure = Failure(blame=Blame.USER, status=404, detail="no user has this username in Keycloak")
    return DeadLetter(reason=Reason.USER_MISSING, failure=failure)
