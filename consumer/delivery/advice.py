"""What each reason code tells a person: what it means, and what to do about it. One table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from consumer.delivery.outcome import Reason

if TYPE_CHECKING:
    from consumer.delivery.outcome import NotDelivered


@dataclass(frozen=True, slots=True)
class Advice:
    """What a reason code tells a person.

    Attributes:
        meaning: what was met.
        remedy: what to do about it.
        somebody: whether it stays until somebody does so: neither time nor a change of another user ends it.
    """

    meaning: str
    remedy: str
    somebody: bool = False


_AGAIN: Final = "publish the change again, under a new event id"

DONE: Final[dict[Reason, str]] = {
    Reason.CREATED: "the user was made",
    Reason.CONVERGED: "the user was there already, and was made equal to the create",
    Reason.UPDATED: "the user was changed",
    Reason.PASSWORD_SET: "the password was set",
    Reason.DELETED: "the user was deleted",
    Reason.DISABLED: "the user was disabled, as deletes are to be done",
    Reason.ALREADY_ABSENT: "there was nobody to delete",
    Reason.ALREADY_APPLIED: "a call whose answer was lost had done it",
    Reason.HEALED: "after a doubt: what a call of ours had left late was undone",
    Reason.AS_DELIVERED: "after a doubt: the user is as was delivered",
    Reason.LEFT_AS_FOUND: "after a doubt: others have changed the user since, which was left (`kcsync drift`)",
    Reason.RESTORED: "Keycloak did not have the user, who was made again from what had been delivered, and then changed",
}
"""What it means that a change was delivered, by its reason."""

ADVICE: Final[dict[Reason, Advice]] = {
    # A definite answer about this one user
    Reason.USER_LOST: Advice(
        "the user was delivered, somebody else has deleted them in Keycloak, and KCSYNC_LOST_USER lets that stand",
        "publish a `user_create` if they are to be there again, or a `user_delete` if they are not",
    ),
    Reason.EMAIL_IN_USE: Advice(
        "another user has the e-mail address",
        "`kcsync held` names that user where it is known: give one of them another address; a dead letter's change is "
        f"not tried again: {_AGAIN}",
    ),
    Reason.USERNAME_IN_USE: Advice(
        "another user has the username, perhaps as an e-mail address or written with other accents",
        f"see who it is in Keycloak, and rename or remove one of them; then {_AGAIN}",
    ),
    Reason.CONFLICT: Advice(
        "Keycloak holds something that contradicts the change, and does not say what",
        "look for a user whose name or address differs only by accents, and see the error in `attempts`; then "
        + _AGAIN,
    ),
    Reason.UNEXPLAINED_REFUSAL: Advice(
        "Keycloak refused the change and did not say why, while it took what others write",
        f"see the error in `attempts`, and Keycloak's log and database; then {_AGAIN}",
    ),
    Reason.INVALID_DATA: Advice(
        "the change breaks a rule of the realm's user profile, or holds text that Keycloak's database does not store; the "
        "error names the field",
        f"correct the data where it comes from and {_AGAIN}; or relax the realm's rule",
    ),
    Reason.PASSWORD_POLICY: Advice(
        "the password breaks a policy of the realm",
        "have the user choose another password; let the application check the policy before it publishes",
    ),
    Reason.PASSWORD_HISTORY: Advice(
        "the password is one of the user's last ones",
        "have the user choose another password",
    ),
    Reason.HEAL_REFUSED_BY_HISTORY: Advice(
        "after a doubt, the password could not be set again: the realm's history has it, so it is or was the user's",
        "nothing, unless the user cannot log in: then a new password",
    ),
    Reason.PROFILE_BROKEN: Advice(
        "a field that the change does not name breaks the realm's user profile as it is now; the error names the field",
        "repair the user in Keycloak, or the rule in the realm's user profile (Realm settings, User profile): what waits "
        "goes on by itself within minutes, or at once by `kcsync held release`",
        somebody=True,
    ),
    Reason.USER_MISSING: Advice(
        "Keycloak has no user of this name",
        f"publish a create for the user, then {_AGAIN}; or set KCSYNC_MISSING_USER=create",
    ),
    Reason.NOT_APPLIED: Advice(
        "the call whose answer was lost has changed nothing, and no attempt is left",
        f"see the earlier errors in `attempts`; then {_AGAIN}",
    ),
    Reason.USER_READ_ONLY: Advice(
        "the user comes from a user federation that Keycloak may not write",
        "change the user there, or set the edit mode of the federation to WRITABLE or UNSYNCED; of one that is READ_ONLY, "
        "enabled, email_verified, required_actions, groups and roles can be changed all the same",
    ),
    Reason.ATTRIBUTE_READ_ONLY: Advice(
        "the realm lets nobody write this attribute",
        "let admin edit it in the realm's user profile, or in the mapper of the federation the user comes from; or name "
        "it in no event",
    ),
    Reason.DIRECTORY_REFUSED: Advice(
        "the user comes from a directory, which does not take this change from Keycloak",
        "see what Keycloak's account may write in the directory, and the directory's own rules (password policy, schema); "
        f"of users whom a federation does not import, Keycloak keeps no groups, roles or required actions; then {_AGAIN}",
    ),
    Reason.BACK_FROM_DIRECTORY: Advice(
        "Keycloak has deleted the user, and has them again from a directory that it may not write",
        "delete the person in the directory, or publish the delete with mode=disable",
    ),
    Reason.HASH_NOT_FOR_DIRECTORY: Advice(
        "the user's password is in a directory, and a directory takes no hash from Keycloak",
        'publish the password itself, sealed: Producer(password_form="sealed")',
    ),
    Reason.USER_PROTECTED: Advice(
        "the user is a service account, in KCSYNC_PROTECTED_USERS, or has rights over the realm",
        "change such a user in Keycloak itself, if that is meant",
    ),
    Reason.RENAMED: Advice(
        "the user whom this name's changes were delivered to bears another name in Keycloak now",
        "see who is meant: give the user their name back and let the change go on (kcsync held release), or drop it (kcsync "
        "held drop) and publish under the name they have now",
        somebody=True,
    ),
    Reason.WOULD_RENAME: Advice(
        "the realm takes e-mail addresses for usernames, and this change would give the user another name than the event's",
        "there, name users by their address in every event, and let a new address be a new user; or turn off Email as username "
        f"(Realm settings, Login), then {_AGAIN}",
    ),
    Reason.GROUP_MISSING: Advice(
        "the realm has no group of this path",
        f"make the group; once the change is a dead letter, {_AGAIN}",
        somebody=True,
    ),
    Reason.GROUP_AMBIGUOUS: Advice(
        "the path may mean several groups, because the name of one holds a slash",
        f"rename one of the groups, so that it is clear which of them is meant; then {_AGAIN}",
    ),
    Reason.ROLE_MISSING: Advice(
        "the realm has no role of this name",
        f"make the realm role, or correct its spelling; once the change is a dead letter, {_AGAIN}",
        somebody=True,
    ),
    Reason.REQUIRED_ACTION_MISSING: Advice(
        "the realm knows no required action of this name, or it is not enabled",
        "enable the action (Authentication, Required actions), or correct its spelling; once the change is a dead letter, "
        + _AGAIN,
        somebody=True,
    ),
    Reason.GRANT_REFUSED: Advice(
        "the role or group gives rights over the realm, which no event gives or takes",
        "give such rights in Keycloak itself, if that is meant",
    ),
    # Keycloak, or the way to it
    Reason.CONNECTION_FAILED: Advice(
        "no connection to Keycloak could be made",
        "see that Keycloak runs, and that KCSYNC_KEYCLOAK_URL names its host and port",
    ),
    Reason.CONNECTION_LOST: Advice(
        "the connection ended before the answer came",
        "see that KCSYNC_KEYCLOAK_URL has the right scheme (http or https), and what ends connections "
        "on the way to Keycloak; if it wants a client certificate, set KCSYNC_KEYCLOAK_CERT_FILE and _KEY_FILE",
    ),
    Reason.TIMEOUT: Advice(
        "no answer came in time",
        "see why Keycloak or its database is slow; KCSYNC_KEYCLOAK_TIMEOUT is the limit of a call",
    ),
    Reason.SERVER_ERROR: Advice(
        "Keycloak answered that it failed (HTTP 5xx)",
        "see Keycloak's log, and its database",
    ),
    Reason.BAD_GATEWAY: Advice(
        "a proxy answered that it did not reach Keycloak (HTTP 502, 504)",
        "a proxy answers and does not reach Keycloak: see that Keycloak runs, and the proxy's log",
    ),
    Reason.UNAVAILABLE: Advice(
        "calls are turned away (HTTP 503)",
        "Keycloak or a proxy before it turns calls away: see its log, and its limits",
    ),
    Reason.STARTING: Advice(
        "Keycloak is starting",
        "nothing: deliveries go on as soon as it is ready; if it stays so, see its log",
    ),
    Reason.THROTTLED: Advice(
        "calls are turned away as too many (HTTP 429)",
        "calls are more than it allows: lower KCSYNC_KEYCLOAK_CALLS, or raise the limit of the proxy",
    ),
    Reason.WRITES_REFUSED: Advice(
        "Keycloak reads and refuses every write",
        "see the database behind Keycloak: whether it takes writes and has room; after a failover Keycloak may keep "
        "connections to the old server until it is restarted",
    ),
    Reason.GARBLED_ANSWER: Advice(
        "the answer began as JSON and was cut off",
        "answers are cut off on their way: see the limits and the log of the proxy before Keycloak",
    ),
    # A user federation of the realm
    Reason.DIRECTORY_UNAVAILABLE: Advice(
        "the directory behind the user's federation does not answer",
        "nothing, if it comes back: what waits goes on then; else see the directory, the federation's settings, and the "
        "user that KCSYNC_FEDERATION_PROBES names",
    ),
    Reason.FEDERATION_DISABLED: Advice(
        "the user comes from a federation that is disabled",
        "enable the federation in Keycloak (User federation), or give the change up (`kcsync held drop`)",
        somebody=True,
    ),
    Reason.TWO_USERS: Advice(
        "Keycloak finds two users of this name, one of them in a federation",
        "remove or rename one of them: what waits goes on then",
        somebody=True,
    ),
    # How we are set up
    Reason.TLS_FAILED: Advice(
        "no TLS connection could be agreed on",
        "see that KCSYNC_KEYCLOAK_URL names a port that speaks https, and which TLS versions it takes",
    ),
    Reason.CERTIFICATE_EXPIRED: Advice(
        "the server's certificate is expired or not valid yet",
        "renew the certificate of the server that KCSYNC_KEYCLOAK_URL names, and see that the "
        "clocks are right",
    ),
    Reason.CERTIFICATE_UNTRUSTED: Advice(
        "nobody we trust has signed the server's certificate",
        "name the authority that has signed it in KCSYNC_KEYCLOAK_CA_FILE, and see that the "
        "server sends its whole chain",
    ),
    Reason.CERTIFICATE_OF_ANOTHER: Advice(
        "the server's certificate is of another host",
        "KCSYNC_KEYCLOAK_URL must name a host that is in the certificate",
    ),
    Reason.CLIENT_CERTIFICATE_REFUSED: Advice(
        "the server wants a client certificate, or not the one it was given",
        "set KCSYNC_KEYCLOAK_CERT_FILE and KCSYNC_KEYCLOAK_KEY_FILE to a certificate that "
        "the server trusts and that has not expired",
    ),
    Reason.CREDENTIALS_REFUSED: Advice(
        "the realm does not know the client, or not this secret",
        "see KCSYNC_KEYCLOAK_CLIENT_ID and KCSYNC_KEYCLOAK_CLIENT_SECRET; the realm must have "
        "that client, with client authentication and service accounts on",
    ),
    Reason.TOKEN_REFUSED: Advice(
        "a token that was just given is refused (HTTP 401)",
        "Keycloak does not take the token that it gave: see that its own host name "
        "(KC_HOSTNAME) and KCSYNC_KEYCLOAK_URL fit, and that its nodes share one clock and one database; with "
        "Keycloak 26.8.2 or newer, that the client has the client scope kc-admin-api as a default scope",
    ),
    Reason.ADMIN_SCOPE_MISSING: Advice(
        "the realm has the client scope kc-admin-api, which Keycloak 26.8.2 and newer want in a token for the Admin API, "
        "and our client's token lacks it (HTTP 401)",
        "assign kc-admin-api to the client (KCSYNC_KEYCLOAK_CLIENT_ID) as a default scope (Clients, the client, Client "
        "scopes, Add client scope)",
    ),
    Reason.FORBIDDEN: Advice(
        "the client may not do this (HTTP 403)",
        "give the service account of the client (KCSYNC_KEYCLOAK_CLIENT_ID) the role manage-users of "
        "realm-management in this realm",
    ),
    Reason.REALM_MISSING: Advice(
        "Keycloak has no realm of this name",
        "create the realm in Keycloak, or correct KCSYNC_KEYCLOAK_REALMS",
    ),
    Reason.REALM_DISABLED: Advice(
        "the realm is disabled",
        "enable the realm in Keycloak, or take it out of KCSYNC_KEYCLOAK_REALMS",
    ),
    Reason.WRONG_PATH: Advice(
        "Keycloak has no such address",
        "Keycloak is not under the path of KCSYNC_KEYCLOAK_URL: take the prefix (/auth) away, or add the "
        "one that Keycloak has (KC_HTTP_RELATIVE_PATH)",
    ),
    Reason.GATEWAY_REFUSED: Advice(
        "a gateway before Keycloak refused the call",
        "a gateway before Keycloak wants its own login: let kcsync pass, or name Keycloak's inner "
        "address in KCSYNC_KEYCLOAK_URL",
    ),
    Reason.REALM_NOT_SERVED: Advice(
        "the realm is not among those that this process serves",
        "add it to KCSYNC_KEYCLOAK_REALMS, or drop what waits for it (`kcsync held drop --realm`)",
    ),
    Reason.REDIRECTED: Advice(
        "the answer sends to another address",
        "redirects are not followed: set KCSYNC_KEYCLOAK_URL to the address that it leads to, or let "
        "kcsync pass the gateway that sends to a login page",
    ),
    Reason.NOT_KEYCLOAK: Advice(
        "the answer is not one of Keycloak",
        "something else than Keycloak answers: see the host, port and path of KCSYNC_KEYCLOAK_URL, and "
        "the proxy before it",
    ),
    Reason.UNEXPECTED_SUCCESS: Advice(
        "the answer is a success in words that are not those of Keycloak",
        "Keycloak does not answer so: something on the way changes its answers, or answers in its "
        "place; see the proxy that KCSYNC_KEYCLOAK_URL names",
    ),
    Reason.UNEXPECTED_ANSWER: Advice(
        "Keycloak answered in a way that is not known",
        "this version of Keycloak is not known to answer so: see its log and its version",
    ),
    # This process
    Reason.KIND_UNREGISTERED: Advice(
        "no installed package brings this kind of change",
        "install the package, in all processes; or give the change up (`kcsync held drop`)",
        somebody=True,
    ),
    Reason.ROLES_UNREADABLE: Advice(
        "the client may not read what this change must know of roles first",
        "give the service account of the client the role that the error names (view-realm for granting roles, groups with "
        "roles and a provider's own required actions; view-clients for KCSYNC_PROTECT_ROLE_HOLDERS); it then goes on by "
        "itself, or at once by `kcsync held release`",
        somebody=True,
    ),
    Reason.BROKEN_OFF: Advice(
        "the delivery was stopped between two of its requests, by the circuit, by maintenance or by a lease",
        "nothing: it goes on by itself",
    ),
    Reason.UNKNOWN_SEALING_KEY: Advice(
        "the password is sealed to a key that this process does not have",
        "`kcsync keys list` names the key: put it into KCSYNC_KEYS_DIR; if it is lost, give the change up "
        "(`kcsync held drop`) and have the password set again",
        somebody=True,
    ),
    Reason.PASSWORD_UNREADABLE: Advice(
        "the sealed password does not open with its key: it was sealed for another user, realm or event",
        "see that the application seals by `producer_lib` and does not copy sealed passwords; then have the password set again",
    ),
    Reason.INTERNAL_ERROR: Advice(
        "a defect of kcsync that this change brings to light",
        "see the log for its traceback, and report it",
    ),
}
"""What every other reason means and asks for."""


def explained(outcome: NotDelivered) -> str:
    """Say in one line what went wrong, and what to do about it."""
    return f"{outcome.failure.detail}; {ADVICE[outcome.reason].remedy}"
