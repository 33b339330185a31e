"""Where the consumer's database is, read from `mysql://user:password@host:port/database`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote, urlsplit

FORM: Final = "mysql://user:password@host:port/database"
_DEFAULT_PORT: Final = 3306


class DatabaseAddressError(ValueError):
    """A database address that cannot be read; its message never repeats the address."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; the form is {FORM}, with special characters percent-encoded (@ is %40)")


@dataclass(frozen=True, slots=True, repr=False)
class DatabaseAddress:
    """One MariaDB database and the account that uses it.

    Attributes:
        host: Host name or address, without the brackets of an IPv6 address.
        port: TCP port, 3306 if the address names none.
        user: Account name, percent-decoded.
        password: The account's password, percent-decoded; never shown by `str` or `repr`.
        database: Name of the database.
    """

    host: str
    port: int
    user: str
    password: str
    database: str

    @classmethod
    def parse(cls, dsn: str) -> Self:
        """Read an address.

        Raises:
            DatabaseAddressError: The scheme is another one, a part is missing, or there is too much.
        """
        # Looked for first: unencoded in a password, they would make nonsense of all that follows.
        if "?" in dsn or "#" in dsn:
            raise DatabaseAddressError("it has a ? or # in it, which it may not")
        try:
            url = urlsplit(dsn.strip())
            port = url.port
        except ValueError:
            raise DatabaseAddressError("its host or port cannot be read") from None
        if url.scheme != "mysql":
            raise DatabaseAddressError("it does not begin with mysql://")
        database = unquote(url.path.removeprefix("/"))
        missing = [
            part
            for part, value in (
                ("user", url.username),
                ("password", url.password),
                ("host", url.hostname),
                ("database", database),
            )
            if not value
        ]
        if missing:
            raise DatabaseAddressError(f"it has no {' and no '.join(missing)}")
        if "/" in database:
            raise DatabaseAddressError("its database name has a slash in it")
        return cls(
            host=url.hostname or "",
            port=_DEFAULT_PORT if port is None else port,
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            database=database,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        # The password is what makes this text a secret, so it alone is masked.
        return f"mysql://{self.user}:****@{host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        return f"DatabaseAddress({str(self)!r})"
