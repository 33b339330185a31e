"""Which `KCSYNC_…` variables were given, which are unknown, and which secrets stand in files."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

PREFIX: Final = "KCSYNC_"
SECRETS_DIR: Final = "KCSYNC_SECRETS_DIR"
FILE_SUFFIX: Final = "_FILE"

# Kubernetes injects these for every service of the namespace, ours among them:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_INJECTED: Final = re.compile(r"KCSYNC_(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_.+)?)")
# The native stack, the tests and the demo share the prefix but not the settings.
_OTHERS: Final = ("KCSYNC_STACK_", "KCSYNC_TEST_", "KCSYNC_DEMO_")
_SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration.

    Attributes:
        variable: The environment variable.
        value: What it holds; None if it is unset or may be a secret.
        reason: Why it is refused.
        allowed: What would be right; None if the reason says so already.
    """

    variable: str
    value: str | None
    reason: str
    allowed: str | None = None

    def __str__(self) -> str:
        text = self.variable
        if self.value is not None:
            shown = self.value
            if len(shown) > _SHOWN_CHARACTERS:
                shown = shown[:_SHOWN_CHARACTERS] + "…"
            text += f"={shown!r}"
        text += f": {self.reason}."
        if self.allowed is not None:
            text += f" Allowed: {self.allowed}."
        return text


class SettingsError(Exception):
    """The configuration is wrong; the message lists everything that is, each with its reason.

    Attributes:
        problems: All that is wrong, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong"
        super().__init__("\n  ".join([f"{count}:", *map(str, problems)]))


def unknown_variables(names: Collection[str], known: Collection[str]) -> list[Problem]:
    """Name each `KCSYNC_…` variable that nothing reads, with the known name nearest to it."""
    problems = []
    for name in sorted(names):
        if (
            not name.startswith(PREFIX)
            or name in known
            or name.startswith(_OTHERS)
            or _INJECTED.fullmatch(name)
        ):
            continue
        # Compared without the prefix that all share, or every name would look near.
        nearest = difflib.get_close_matches(
            name.removeprefix(PREFIX).upper(),
            [candidate.removeprefix(PREFIX) for candidate in known],
            n=1,
            cutoff=0.0,
        )
        # Its value is not shown: a misspelt KCSYNC_DATABASE_DSN holds a password all the same.
        problems.append(
            Problem(name, None, f"no setting has this name; the nearest known name is {PREFIX}{nearest[0]}")
        )
    return problems


def read_variables(
    environ: Mapping[str, str], *, settings: Collection[str], secrets: Collection[str]
) -> tuple[dict[str, str], list[Problem]]:
    """Collect the text of every setting that was given.

    A setting comes from its variable; a secret also from the file that `<variable>_FILE` names; and any setting from a
    file of the variable's name in the folder `KCSYNC_SECRETS_DIR` (systemd credentials, Kubernetes secrets). A
    variable goes before a file of the folder. An empty variable counts as unset.

    Args:
        environ: Names and values, as in `os.environ`.
        settings: The variable of every setting.
        secrets: Those of them that hold secrets.

    Returns:
        Texts by variable, and what was wrong.
    """
    files = {secret + FILE_SUFFIX: secret for secret in secrets}
    problems = unknown_variables(environ, [*settings, *files, SECRETS_DIR])
    values = _read_folder(environ.get(SECRETS_DIR) or None, settings, problems)
    for variable, secret in files.items():
        path = environ.get(variable)
        if not path:
            continue
        if environ.get(secret):
            problems.append(
                Problem(variable, path, f"{secret} is set too", f"one of {secret} and {variable}")
            )
            continue
        try:
            values[secret] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(variable, path, _why(error), "the path of a readable text file"))
    values |= {variable: environ[variable] for variable in settings if environ.get(variable)}
    return values, problems


def _read_folder(folder: str | None, settings: Collection[str], problems: list[Problem]) -> dict[str, str]:
    if folder is None:
        return {}
    if not Path(folder).is_dir():
        problems.append(
            Problem(SECRETS_DIR, folder, "there is no such folder", "the path of a readable folder")
        )
        return {}
    values = {}
    for variable in settings:
        path = Path(folder, variable)
        try:
            if path.is_file():
                values[variable] = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(SECRETS_DIR, str(path), _why(error), "readable text files"))
    return values


def _why(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the file is not UTF-8 text"
    return f"the file cannot be read ({error.strerror})"
