"""What an operator should do about a failure that is nobody's own: one table, by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.delivery.outcome import Reason

if TYPE_CHECKING:
    from consumer.delivery.outcome import NotDelivered

ADVICE: dict[Reason, str] = {
    # A user
    Reason.PROFILE_BROKEN: "repair the user in Keycloak, or the rule in the realm's user profile (Realm settings, User "
    "profile): what waits goes on by itself within minutes, or at once with `kcsync sync-now --ignore-backoff`",
    # Keycloak, or the way to it
    Reason.CONNECTION_FAILED: "see that Keycloak runs, and that KCSYNC_KEYCLOAK_URL names its host and port",
    Reason.CONNECTION_LOST: "see that KCSYNC_KEYCLOAK_URL has the right scheme (http or https), and what ends connections "
    "on the way to Keycloak; if it wants a client certificate, set KCSYNC_KEYCLOAK_CERT_FILE and _KEY_FILE",
    Reason.TIMEOUT: "see why Keycloak or its database is slow; KCSYNC_KEYCLOAK_TIMEOUT is the limit of a call",
    Reason.SERVER_ERROR: "see Keycloak's log, and its database",
    Reason.BAD_GATEWAY: "a proxy answers and does not reach Keycloak: see that Keycloak runs, and the proxy's log",
    Reason.UNAVAILABLE: "Keycloak or a proxy before it turns calls away: see its log, and its limits",
    Reason.THROTTLED: "calls are more than it allows: lower KCSYNC_KEYCLOAK_CALLS, or raise the limit of the proxy",
    Reason.GARBLED_ANSWER: "answers are cut off on their way: see the limits and the log of the proxy before Keycloak",
    # How we are set up
    Reason.TLS_FAILED: "see that KCSYNC_KEYCLOAK_URL names a port that speaks https, and which TLS versions it takes",
    Reason.CERTIFICATE_EXPIRED: "renew the certificate of the server that KCSYNC_KEYCLOAK_URL names, and see that the "
    "clocks are right",
    Reason.CERTIFICATE_UNTRUSTED: "name the authority that has signed it in KCSYNC_KEYCLOAK_CA_FILE, and see that the "
    "server sends its whole chain",
    Reason.CERTIFICATE_OF_ANOTHER: "KCSYNC_KEYCLOAK_URL must name a host that is in the certificate",
    Reason.CLIENT_CERTIFICATE_REFUSED: "set KCSYNC_KEYCLOAK_CERT_FILE and KCSYNC_KEYCLOAK_KEY_FILE to a certificate that "
    "the server trusts and that has not expired",
    Reason.CREDENTIALS_REFUSED: "see KCSYNC_KEYCLOAK_CLIENT_ID and KCSYNC_KEYCLOAK_CLIENT_SECRET; the realm must have "
    "that client, with client authentication and service accounts on",
    Reason.TOKEN_REFUSED: "Keycloak does not take the token that it gave: see that its own host name "
    "(KC_HOSTNAME) and KCSYNC_KEYCLOAK_URL fit, and that its nodes share one clock and one database",
    Reason.FORBIDDEN: "give the service account of the client (KCSYNC_KEYCLOAK_CLIENT_ID) the role manage-users of "
    "realm-management in this realm",
    Reason.REALM_MISSING: "create the realm in Keycloak, or correct KCSYNC_KEYCLOAK_REALMS",
    Reason.REALM_DISABLED: "enable the realm in Keycloak, or take it out of KCSYNC_KEYCLOAK_REALMS",
    Reason.WRONG_PATH: "Keycloak is not under the path of KCSYNC_KEYCLOAK_URL: take the prefix (/auth) away, or add the "
    "one that Keycloak has (KC_HTTP_RELATIVE_PATH)",
    Reason.GATEWAY_REFUSED: "a gateway before Keycloak wants its own login: let kcsync pass, or name Keycloak's inner "
    "address in KCSYNC_KEYCLOAK_URL",
    Reason.REDIRECTED: "redirects are not followed: set KCSYNC_KEYCLOAK_URL to the address that it leads to, or let "
    "kcsync pass the gateway that sends to a login page",
    Reason.NOT_KEYCLOAK: "something else than Keycloak answers: see the host, port and path of KCSYNC_KEYCLOAK_URL, and "
    "the proxy before it",
    Reason.UNEXPECTED_SUCCESS: "Keycloak does not answer so: something on the way changes its answers, or answers in its "
    "place; see the proxy that KCSYNC_KEYCLOAK_URL names",
    Reason.UNEXPECTED_ANSWER: "this version of Keycloak is not known to answer so: see its log and its version",
}


def explained(outcome: NotDelivered) -> str:
    """Say in one line what went wrong, and what to do about it where that is known."""
    advice = ADVICE.get(outcome.reason)
    return outcome.failure.detail if advice is None else f"{outcome.failure.detail}; {advice}"
