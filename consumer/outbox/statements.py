"""Named statements from .sql files.

A file holds several statements. Each begins with a line `-- name: some_name`, followed by a comment that says what it
does and by the statement itself with `%(name)s` parameters.
"""

from __future__ import annotations

import re
from importlib import resources

__all__ = ["load_statements"]

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*$\n?", re.MULTILINE)


def load_statements(file: str) -> dict[str, str]:
    """Read `consumer/outbox/sql/<file>.sql`: name → statement, without comments."""
    text = resources.files("consumer.outbox").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEADER.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}.sql names a statement twice")
    return {
        name: _COMMENT.sub("", body).strip().rstrip(";") for name, body in zip(names, bodies, strict=True)
    }
