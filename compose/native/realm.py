"""What the stack puts into Keycloak: a realm and three clients. Harmless when repeated."""

from __future__ import annotations

from typing import Any

import httpx

from compose.native.errors import StackError

REALM = "kcsync"
SERVICE_CLIENT = "kcsync"
OBSERVER_CLIENT = "kcsync-observer"
LOGIN_CLIENT = "kcsync-login"

# The consumer's least privilege, and what tests and the demo need to look behind it and to change the realm.
SERVICE_ROLES = frozenset({"manage-users"})
OBSERVER_ROLES = frozenset({"manage-users", "view-events", "view-realm", "manage-realm"})

# What Keycloak 26.8.2 and newer want in a token for the Admin API; older ones have no such client scope.
ADMIN_SCOPE = "kc-admin-api"

_REALM_SETTINGS = {"enabled": True, "adminEventsEnabled": True, "adminEventsDetailsEnabled": True}


class Provisioner:
    """Brings one Keycloak to the state the stack promises.

    Args:
        url: Keycloak's base URL.
        username: an administrator of the master realm.
        password: that administrator's password.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = url
        self._username = username
        self._password = password

    def provide(self, client_secret: str, observer_secret: str) -> None:
        """Create what is missing and set what differs; nothing else in the realm is touched.

        Raises:
            StackError: Keycloak refused, with its status and words.
        """
        try:
            with httpx.Client(base_url=self._url, timeout=60) as http:
                admin = _Admin(http, self._username, self._password)
                self._realm(admin)
                for client_id, secret, roles in (
                    (SERVICE_CLIENT, client_secret, SERVICE_ROLES),
                    (OBSERVER_CLIENT, observer_secret, OBSERVER_ROLES),
                ):
                    client = self._client(admin, _service_client(client_id, secret))
                    self._roles(admin, client, roles)
                    self._admin_scope(admin, client)
                self._client(admin, _LOGIN_CLIENT)
        except httpx.HTTPError as error:
            raise StackError(
                f"Keycloak did not answer while the realm was set up ({type(error).__name__}). Run `up` again."
            ) from None

    @staticmethod
    def _realm(admin: _Admin) -> None:
        if admin.get_or_none(f"/admin/realms/{REALM}") is None:
            admin.post("/admin/realms", {"realm": REALM, **_REALM_SETTINGS})
        else:
            admin.put(f"/admin/realms/{REALM}", _REALM_SETTINGS)
        profile = admin.get(f"/admin/realms/{REALM}/users/profile")
        if profile.get("unmanagedAttributePolicy") != "ADMIN_EDIT":
            # The whole document, because a PUT replaces it.
            admin.put(
                f"/admin/realms/{REALM}/users/profile", {**profile, "unmanagedAttributePolicy": "ADMIN_EDIT"}
            )

    @staticmethod
    def _client(admin: _Admin, wanted: dict[str, Any]) -> str:
        """Create or update a client; give its id."""
        clients = f"/admin/realms/{REALM}/clients"
        query = {"clientId": wanted["clientId"]}
        found = admin.get(clients, query)
        if found:
            admin.put(f"{clients}/{found[0]['id']}", {**found[0], **wanted})
        else:
            admin.post(clients, wanted)
            found = admin.get(clients, query)
        return str(found[0]["id"])

    @staticmethod
    def _admin_scope(admin: _Admin, client: str) -> None:
        """Make the scope of the Admin API one of a client's default ones, where the realm has it."""
        for scope in admin.get(f"/admin/realms/{REALM}/client-scopes"):
            if scope["name"] == ADMIN_SCOPE:
                admin.put(f"/admin/realms/{REALM}/clients/{client}/default-client-scopes/{scope['id']}", None)

    @staticmethod
    def _roles(admin: _Admin, client: str, wanted: frozenset[str]) -> None:
        """Give a client's service account exactly these roles of realm-management."""
        (management,) = admin.get(f"/admin/realms/{REALM}/clients", {"clientId": "realm-management"})
        account = admin.get(f"/admin/realms/{REALM}/clients/{client}/service-account-user")
        mapping = f"/admin/realms/{REALM}/users/{account['id']}/role-mappings/clients/{management['id']}"
        held = admin.get(mapping)
        missing = wanted - {role["name"] for role in held}
        if missing:
            roles = admin.get(f"/admin/realms/{REALM}/clients/{management['id']}/roles")
            admin.post(mapping, [role for role in roles if role["name"] in missing])
        if excess := [role for role in held if role["name"] not in wanted]:
            admin.delete(mapping, excess)


class _Admin:
    """The few calls of the Admin API that are needed, each refused answer an error."""

    def __init__(self, http: httpx.Client, username: str, password: str) -> None:
        self._http = http
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": username,
            "password": password,
        }
        answer = self._checked(http.post("/realms/master/protocol/openid-connect/token", data=form))
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, query: dict[str, str] | None = None) -> Any:
        return self._checked(self._http.get(path, params=query)).json()

    def get_or_none(self, path: str) -> Any:
        answer = self._http.get(path)
        return None if answer.status_code == 404 else self._checked(answer).json()

    def post(self, path: str, body: Any) -> None:
        self._checked(self._http.post(path, json=body))

    def put(self, path: str, body: Any) -> None:
        self._checked(self._http.put(path, json=body))

    def delete(self, path: str, body: Any) -> None:
        self._checked(self._http.request("DELETE", path, json=body))

    @staticmethod
    def _checked(answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        request = answer.request
        raise StackError(
            f"Keycloak answered {answer.status_code} to {request.method} {request.url.path}: {answer.text[:200]} "
            "Run `down` and `up` again; if it stays, delete the stack's folder and start anew."
        )


def _service_client(client_id: str, secret: str) -> dict[str, Any]:
    return {
        "clientId": client_id,
        "enabled": True,
        "protocol": "openid-connect",
        "publicClient": False,
        "secret": secret,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
    }


_LOGIN_CLIENT = {
    "clientId": LOGIN_CLIENT,
    "enabled": True,
    "protocol": "openid-connect",
    "publicClient": True,
    "standardFlowEnabled": False,
    "implicitFlowEnabled": False,
    "serviceAccountsEnabled": False,
    "directAccessGrantsEnabled": True,
}
