"""Named statements from .sql files.

A file holds several statements. Each begins with a line `-- name: some_name`, followed by a comment that says what it
does and by the statement itself with `%(name)s` parameters. `{name}` stands for the text of that name: a part that
several statements have in common, and no statement itself.
"""

from __future__ import annotations

import re
from importlib import resources

__all__ = ["load_statements"]

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PART = re.compile(r"\{(\w+)\}")
_COMMENT = re.compile(r"^--.*$\n?", re.MULTILINE)


def load_statements(file: str) -> dict[str, str]:
    """Read `consumer/outbox/sql/<file>.sql`: name → statement, without comments.

    Raises:
        ValueError: two have the same name.
        KeyError: a part does not exist.
    """
    text = resources.files("consumer.outbox").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEADER.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}.sql names a statement twice")
    texts = {
        name: _COMMENT.sub("", body).strip().rstrip(";") for name, body in zip(names, bodies, strict=True)
    }
    parts_used = {part for text in texts.values() for part in _PART.findall(text)}
    return {
        name: _PART.sub(lambda part: texts[part[1]], text)
        for name, text in texts.items()
        if name not in parts_used
    }
