"""The page docs/reference/keycloak-behaviour.md: what deliveries build on, looked at in every version of Keycloak.

`python -m tests.conformance.page` starts one Keycloak after the other, holds each to the suite, and writes the page. A test
holds page and suite together; `make test-all` holds the versions to the page. `--keep` starts nothing: it brings the rows of
the page up to those of the suite, the new ones as `not run`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from compose.native.artifacts import KEYCLOAK_VERSION, OLDER_KEYCLOAK_VERSIONS
from compose.native.keycloak import ADMIN, lone_keycloak
from tests.conformance import grant_cases, naming_cases, self_service_cases, server_cases, user_cases
from tests.conformance.keycloak import real_realm
from tests.conformance.server_cases import RealCase

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "keycloak-behaviour.md"

VERSIONS: Final = (*OLDER_KEYCLOAK_VERSIONS, KEYCLOAK_VERSION)

BELIEFS: Final[Mapping[str, Sequence[RealCase]]] = {
    "Users": user_cases.CASES,
    "Groups, roles, hashes and sessions": grant_cases.CASES,
    "What users do themselves": self_service_cases.CASES,
    "Names and addresses": naming_cases.CASES,
    "Doors, scopes, profiles, imports and rights": server_cases.CASES,
}

HOLDS: Final = "yes"
NOT_RUN: Final = "not run"

DIFFERS: Final[Mapping[str, Mapping[str, str]]] = {
    # Seen with 26.4.5 and 26.5.6; nothing that deliveries do depends on it.
    "a_password_of_ones_own_is_asked_for_after_all_else_and_then_no_longer": dict.fromkeys(
        OLDER_KEYCLOAK_VERSIONS, "no: asked for first"
    ),
    "an_address_is_confirmed_by_its_link_whether_that_was_required_or_not": dict.fromkeys(
        OLDER_KEYCLOAK_VERSIONS, "no: no letter is sent"
    ),
    "manage_users_alone_does_not_read_who_holds_which_role": dict.fromkeys(
        OLDER_KEYCLOAK_VERSIONS, "no: it reads them all"
    ),
}
"""What older versions do otherwise, by case and version. Deliveries may build on none of these."""

_INTRODUCTION: Final = f"""\
# What Keycloak does

<!-- Written by `python -m tests.conformance.page`; change the cases in tests/conformance, not this page. -->

What deliveries build on, each a case of `tests/conformance` that was run against a real server of each version, with a
MariaDB behind it. `{HOLDS}` means that the server does so; deliveries do not build on what differs.

Versions {", ".join(VERSIONS)} were run. 26.6 and 26.8 could not be had: nothing is said of them here but what
[a decision](../decisions/0059-the-scope-of-the-admin-api.md) says of the client scope `kc-admin-api`.
What directories behind a federation do is held by tests with an LDAP server (`tests/integration`), with {KEYCLOAK_VERSION} alone.
"""


def told(case: RealCase) -> str:
    """A case as a sentence: its name, and its docstring if it has one."""
    name = case.__name__.replace("_", " ")
    more = " ".join((case.__doc__ or "").split())
    return f"{name[0].upper()}{name[1:]}." + (f" {more}" if more else "")


def render(seen: Mapping[str, Mapping[str, str]]) -> str:
    """Write the page.

    Args:
        seen: by version and name of the case, `HOLDS` or what came instead.
    """
    lines = [_INTRODUCTION]
    for heading, cases in BELIEFS.items():
        lines += [
            f"## {heading}",
            "",
            f"| Behaviour | {' | '.join(VERSIONS)} |",
            f"|---|{'---|' * len(VERSIONS)}",
            *(
                f"| {told(case)} | {' | '.join(seen[version].get(case.__name__, NOT_RUN) for version in VERSIONS)} |"
                for case in cases
            ),
            "",
        ]
    return "\n".join(lines)


async def look(version: str, url: str, password: str) -> dict[str, str]:
    """Hold one Keycloak of a version to every case; what each came to."""
    seen = {}
    async with real_realm(url, ADMIN, password) as realm:
        for cases in BELIEFS.values():
            for case in cases:
                try:
                    await case(realm)
                except (AssertionError, TimeoutError):
                    seen[case.__name__] = DIFFERS.get(case.__name__, {}).get(version, "no")
                else:
                    seen[case.__name__] = HOLDS
    return seen


def committed() -> dict[str, dict[str, str]]:
    """What the page says now, by version and name of the case; cases without a row are left out."""
    rows = {
        cells[0]: cells[1:]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] != "Behaviour"
    }
    return {
        version: {
            case.__name__: rows[told(case)][n]
            for cases in BELIEFS.values()
            for case in cases
            if told(case) in rows
        }
        for n, version in enumerate(VERSIONS)
    }


def main(arguments: Sequence[str]) -> None:
    """Look at every version, and write the page; with `--keep`, keep what it says and add the rows that are lacking."""
    seen = committed() if "--keep" in arguments else {}
    for version in () if seen else VERSIONS:
        with lone_keycloak(version, print) as keycloak:
            password = keycloak.instance.state.secrets["keycloak_admin_password"]
            seen[version] = asyncio.run(look(version, keycloak.url, password))
        held = sum(each == HOLDS for each in seen[version].values())
        print(f"Keycloak {version}: {held} of {len(seen[version])} hold")  # noqa: T201 - a command
    PAGE.write_text(render(seen), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
