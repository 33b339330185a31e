"""Every setting of the consumer: what it means, its unit, its default, and why to leave it alone.

All come from environment variables, `KCSYNC_` and the field's name in capitals. The page
docs/reference/configuration.md is written from this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from consumer.database_address import FORM
from consumer.durations import format_duration
from consumer.environment import PREFIX, SettingsError, read_variables
from consumer.kind_overrides import FORM as OVERRIDES_FORM
from consumer.kind_overrides import KindOverrides
from consumer.setting_texts import ContradictionError, display, is_secret, problems_in, variable_of
from consumer.setting_values import (
    CREDENTIAL_RETENTIONS,
    RETENTIONS,
    Address,
    CredentialRetention,
    Duration,
    FederationProbes,
    KafkaName,
    LanePolicies,
    Names,
    Retention,
    Servers,
    Usernames,
    WebAddress,
    own_name,
    upper,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE_MARGIN: Final = timedelta(seconds=2)
"""What a lease must be longer than twice the HTTP timeout: time for the write-back and for uneven clocks."""

_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """The polling service's recommended values for one kind of environment."""

    sync_interval: timedelta
    batch_size: int
    cleanup_interval: timedelta


PROFILES: Final[Mapping[str, Profile]] = {
    "development": Profile(30 * _SECOND, 50, 30 * _MINUTE),
    "production": Profile(60 * _SECOND, 100, _HOUR),
    "high-volume": Profile(30 * _SECOND, 200, 2 * _HOUR),
}
_DEFAULT_PROFILE: Final = "production"


class Settings(BaseModel):
    """The consumer's configuration: read once at start, never changed.

    `Settings.load` reads it from the environment; a call with keyword arguments (in tests) takes these alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Kafka

    kafka_bootstrap: Servers = Field(
        description="The Kafka brokers asked first; they name the others. More than one lets the consumer start while "
        "one broker is away.",
        json_schema_extra={"allowed": "host:port, several separated by commas"},
    )
    kafka_topic: KafkaName = Field(
        default="kcsync.user-events",
        description="The topic that producers publish to. A watermark belongs to one topic: with another name the "
        "consumer starts afresh there.",
        json_schema_extra={"allowed": "1 to 249 letters, digits, dots, underscores and hyphens"},
    )
    kafka_group: KafkaName = Field(
        default="kcsync",
        description="The consumer group. All instances that share the work share it. Resetting its offsets replays "
        "history.",
        json_schema_extra={"allowed": "1 to 249 letters, digits, dots, underscores and hyphens"},
    )
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"], BeforeValidator(upper)
    ] = Field(
        default="PLAINTEXT",
        description="How the brokers are talked to. Events name users, so anything but SSL or SASL_SSL belongs inside "
        "a trusted network only; passwords are sealed in either case.",
    )
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None, BeforeValidator(upper)
    ] = Field(
        default=None, description="How the consumer proves who it is. Needed with the SASL protocols only."
    )
    kafka_sasl_username: str | None = Field(
        default=None,
        description="The consumer's account at the brokers. Needed with the SASL protocols only.",
    )
    kafka_sasl_password: SecretStr | None = Field(
        default=None, description="That account's password. Needed with the SASL protocols only."
    )
    kafka_ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) trusted to sign the brokers'. Unset means the system's own. Only with SSL and "
        "SASL_SSL.",
    )

    # Database

    database_dsn: Address = Field(
        description="The MariaDB database of the outbox, with the account that uses it. The port is 3306 if none is "
        "named; special characters in user and password are percent-encoded.",
        json_schema_extra={"allowed": FORM},
    )
    database_tls: bool = Field(
        default=False,
        description="Whether the connection to MariaDB is encrypted. The server's certificate and its host name are "
        "then always verified, and a server without TLS is refused. Events name users, so without it the database "
        "belongs inside a trusted network.",
    )
    database_ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) trusted to sign MariaDB's. Unset means the system's own. Only with "
        "database_tls.",
    )
    database_cert_file: Path | None = Field(
        default=None,
        description="Our own certificate (PEM, with its chain), where the account is REQUIRE X509. Only with "
        "database_tls, and together with database_key_file.",
    )
    database_key_file: Path | None = Field(
        default=None,
        description="The private key of that certificate (PEM, without a passphrase), readable by the consumer's user "
        "alone.",
    )
    database_connections: int = Field(
        default=8,
        ge=2,
        le=64,
        description="The most connections one instance opens. Statements are short and write-backs share "
        "transactions, so more seldom helps; every instance takes its own out of MariaDB's max_connections.",
    )

    # Keycloak

    keycloak_url: WebAddress = Field(
        description="Where Keycloak answers, with its path prefix if it has one. Passwords travel to it in clear inside "
        "the call, so use https wherever the network is not your own machine.",
        json_schema_extra={"allowed": "http://host[:port][/path] or https://…"},
    )
    keycloak_realms: Names = Field(
        description="The realms served. An event of another realm is refused at ingest, so a typing error in a producer "
        "cannot reach a realm that nobody meant.",
        json_schema_extra={"allowed": "realm names separated by commas, each once"},
    )
    keycloak_client_id: str = Field(
        description="The service client, present in every realm served, with the role manage-users of "
        "realm-management and, if events grant realm roles, view-realm; no more."
    )
    keycloak_client_secret: SecretStr = Field(description="That client's secret.")
    keycloak_ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) trusted to sign Keycloak's. Unset means the system's own.",
    )
    keycloak_cert_file: Path | None = Field(
        default=None,
        description="Our own certificate (PEM, with its chain), where Keycloak or a proxy before it asks for one. Only "
        "with an https address, and together with keycloak_key_file. Read at start.",
    )
    keycloak_key_file: Path | None = Field(
        default=None,
        description="The private key of that certificate (PEM, without a passphrase), readable by the consumer's user "
        "alone.",
    )
    keycloak_timeout: Duration = Field(
        default=10 * _SECOND,
        ge=_SECOND / 10,
        le=_MINUTE,
        description="How long one HTTP call may take. A call that times out may still take effect in Keycloak, so a "
        "short timeout makes doubt, not speed.",
    )
    keycloak_calls: int = Field(
        default=16,
        ge=1,
        le=256,
        description="The most calls one instance has under way at once. How many it really has follows what Keycloak "
        "can take, between KCSYNC_KEYCLOAK_CALLS_FLOOR and this; `status` shows it. With many instances make it smaller "
        "rather than larger.",
    )
    keycloak_calls_floor: int = Field(
        default=2,
        ge=1,
        le=256,
        description="The fewest calls one instance lets itself have under way at once, however much others wait for "
        "Keycloak. The same as KCSYNC_KEYCLOAK_CALLS fixes the number: a little faster for a first load while nobody "
        "logs in, and nothing then backs off but the circuit.",
    )
    max_calls_per_second: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="The most calls to Keycloak that begin in a second, all instances together: logins come first. Each "
        "instance takes its share by the number of instances alive. Unset means as many as Keycloak takes.",
    )
    keys_dir: Path = Field(
        description="The folder of private sealing keys, `<key id>.key` each, readable by the consumer's user alone. "
        "Read again when it changes. Keep an old key until no event sealed to it can come back by a replay.",
        json_schema_extra={"allowed": "a folder, such as a mounted secret"},
    )

    # This process

    instance: str = Field(
        default_factory=own_name,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="This process's name in leases, `status`, logs and traces. It must differ between all processes "
        "that ever run at once, or one would take the other's leases for its own; so leave it unset.",
        json_schema_extra={
            "allowed": "1 to 64 letters, digits, dots, underscores and hyphens",
            "default": "host name, process id and a random part",
        },
    )
    role: Literal["all", "ingest", "drain"] = Field(
        default="all",
        description="What this process does. `ingest` reads Kafka into the outbox and never talks to Keycloak; `drain` "
        "delivers from the outbox and never joins the Kafka group. Run at least one of each, or `all`. "
        "`kcsync start --role` goes before it.",
    )
    profile: Literal["development", "production", "high-volume"] = Field(
        default="production",
        description="Chooses the defaults of sync_interval, batch_size and cleanup_interval; each can still be set "
        "alone.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="Lines for people, or one JSON object per line with trace ids for a log store.",
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = Field(
        default="INFO",
        description="The least urgent lines written. INFO has one line per change of state and one summary per "
        "sync_interval, never one per event.",
    )

    # Ingest

    ingest_batch: int = Field(
        default=1000,
        ge=1,
        le=5000,
        description="The most records persisted in one transaction. Larger batches save commits and hold locks longer.",
    )

    backlog_high: int = Field(
        default=1_000_000,
        ge=1,
        le=1_000_000_000,
        description="From so many undelivered entries on ingest holds, and events wait in Kafka. Held entries, those "
        "behind them and those of a realm at fault do not count: they wait for somebody. A million takes some 1 GB of MariaDB's disk "
        "and no memory of this process.",
    )
    backlog_low: int = Field(
        default=800_000,
        ge=0,
        le=1_000_000_000,
        description="Ingest goes on when no more than so many are left. The distance to backlog_high keeps it from "
        "stopping and going all the time.",
    )

    # Drain

    sync_interval: Duration = Field(
        default=PROFILES[_DEFAULT_PROFILE].sync_interval,
        ge=_SECOND,
        le=_HOUR,
        description="How often the summary line is written and the outbox is swept for work that no signal announced. "
        "New work is taken at once, so a shorter interval does not deliver faster.",
        json_schema_extra={"by_profile": True},
    )
    batch_size: int = Field(
        default=PROFILES[_DEFAULT_PROFILE].batch_size,
        ge=1,
        le=5000,
        description="The most entries claimed at once. A claimed entry waits for its turn in this instance, so a large "
        "batch takes work away from the others.",
        json_schema_extra={"by_profile": True},
    )
    lease: Duration = Field(
        default=30 * _SECOND,
        ge=3 * _SECOND,
        le=10 * _MINUTE,
        description="How long a shard stays with an instance that says nothing. After a crash its users wait that "
        "long. It must be more than twice keycloak_timeout and 2s: no call may outlive the lease it was started under.",
    )
    delete_mode: Literal["delete", "disable"] = Field(
        default="delete",
        description="What a delete event does that names no mode itself: remove the user, or only bar the login.",
    )
    missing_user: Literal["dead_letter", "create"] = Field(
        default="dead_letter",
        description="What an update or a password change does whose user Keycloak does not have: nothing, as a dead "
        "letter `user_missing`, or create the user from what the event names. What becomes of a user whom Keycloak had from "
        "us and has no more, KCSYNC_LOST_USER says. It may differ by kind: `user_update.missing_user=create`.",
    )
    lost_user: Literal["restore", "dead_letter"] = Field(
        default="restore",
        description="What becomes of a user whom kcsync delivered and Keycloak does not have any more: with `restore`, the "
        "next change makes them again from everything that was delivered, before it is applied itself (a Keycloak that "
        "was restored from an old backup, or emptied). With `dead_letter`, somebody's delete in Keycloak stands: changes of "
        "that user are dead letters `user_lost` until a `user_create` makes them anew from what it names. A late delete of "
        "our own is undone in either case.",
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description="After so many charged attempts an entry becomes a dead letter. An attempt is charged only when "
        "Keycloak was demonstrably available, so an outage of any length costs none.",
    )
    backoff_base: Duration = Field(
        default=_SECOND,
        ge=_SECOND / 10,
        le=_MINUTE,
        description="The wait after the first charged attempt, before jitter.",
    )
    backoff_factor: float = Field(
        default=4,
        ge=1,
        le=10,
        description="What each further wait is multiplied by: 1s, 4s, 16s, 64s by default.",
    )
    backoff_cap: Duration = Field(
        default=5 * _MINUTE, ge=_SECOND / 10, le=_DAY, description="The longest wait between two attempts."
    )
    pending_max_age: Retention = Field(
        default=7 * _DAY,
        description="An entry that could have been delivered for so long since its first call, and was not, becomes a "
        "dead letter `too_old`. Only its time at the head of its user's queue counts while Keycloak was there and its "
        "realm was not at fault, so neither an outage nor a long queue makes an entry old. What may have been applied "
        "is read back first.",
        json_schema_extra={"allowed": RETENTIONS},
    )
    kind_overrides: KindOverrides = Field(
        default=(),
        description="Settings that differ for some kinds, such as `user_delete.max_attempts=10, "
        "user_create.backoff_base=2s`. `batch_size` of a kind is the most calls of that kind that one instance has "
        "claimed or under way at once; what is beyond it waits aside, and delays no other kind.",
        json_schema_extra={"allowed": OVERRIDES_FORM, "default": "none"},
    )
    protected_users: Usernames = Field(
        default=frozenset(),
        description="Users of any realm who are never touched, beside service accounts: an event about one is a dead "
        "letter (`user_protected`), and Keycloak is not asked. Name those who must get in when all else fails.",
        json_schema_extra={"allowed": "usernames separated by commas", "default": "nobody"},
    )
    protect_role_holders: Literal["on", "off"] = Field(
        default="off",
        description="Whether holders of realm-management roles, their own or by a role or group, are never deleted or "
        "disabled, nor given another password or e-mail address. Keycloak shows roles only to a client that also has "
        "view-clients of realm-management, which lets it read client secrets; without that role such changes wait. "
        "It costs one more call per user and five minutes.",
    )
    bulk_creates: Literal["on", "off"] = Field(
        default="off",
        description="Whether users are created up to 100 in one call (`partialImport`) where many wait, for a first load. "
        "The client needs `manage-realm` of realm-management for it, which can change everything in the realm: give it for "
        "the time of the load. Users with a password in clear, attributes, or names that a user profile might refuse are "
        "created one by one all the same.",
    )
    federation_probes: FederationProbes = Field(
        default=frozenset(),
        description="Of each realm whose users come from a directory (a user federation, LDAP), one user of that directory: "
        "somebody who is never removed, such as a service account made for it. While this user cannot be seen the directory "
        "is away, and then users who are not found are not taken for missing, and nobody is created. With several directories "
        "behind a realm, name one user of each. It costs one or two more calls per create, and per user who is not found; "
        "realms that are not named pay nothing (docs/guides/federations.md).",
        json_schema_extra={
            "allowed": "realm=username, several separated by commas",
            "default": "none",
        },
    )
    lane_policy: LanePolicies = Field(
        default=("user_create=hold",),
        description="What a dead letter does to its user's later changes, by kind: they go on, or wait until an operator "
        "has looked (`kcsync held`). A kind that is not named goes on. After a create that failed, later changes would "
        "only fail one by one for a user who is not there.",
        json_schema_extra={"allowed": "kind=continue or kind=hold, several separated by commas"},
    )
    deletion_guard: Literal["on", "off"] = Field(
        default="on",
        description="Whether deletes beyond deletion_limit or deletion_percent in an hour and realm are held until an "
        "operator allows them (`kcsync allow-deletes`). A wrong query in an application deletes users one correct event "
        "at a time: only their number shows it.",
    )
    deletion_limit: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="The most deletes that go through in an hour and realm; disabling by a delete event counts.",
    )
    deletion_percent: int = Field(
        default=20,
        ge=1,
        le=100,
        description="The most deletes that go through in an hour, in percent of the realm's known users. It never allows "
        "fewer than 10, or every small realm would need somebody for an ordinary day.",
    )
    server_limit: Duration = Field(
        default=_MINUTE,
        ge=_SECOND,
        le=_HOUR,
        description="How long a request whose answer was lost may still take effect inside Keycloak: no shorter than the "
        "longest that Keycloak and everything before it let a request live. Until then nothing that may have been "
        "applied is given up and a create or delete in doubt blocks its user; afterwards the user is healed.",
    )
    merge: Literal["on", "off"] = Field(
        default="on",
        description="Whether due changes of one user share a call: a create takes in the updates and password changes "
        "behind it, an update the updates, a password change the password changes. The outcome is the same; a backlog "
        "drains faster.",
    )

    # Circuit

    failure_threshold: int = Field(
        default=3,
        ge=1,
        le=100,
        description="The circuit opens when calls of so many different users have begun to fail within a minute with no "
        "success between. From 2 on, one user's trouble cannot open it.",
    )
    cooldown: Duration = Field(
        default=60 * _SECOND,
        ge=_SECOND,
        le=_HOUR,
        description="How long an open circuit rests before a control call is made though nothing has changed. It grows "
        "with jitter while such calls fail, up to cooldown_cap. A Keycloak that was away is not waited for so long: one "
        "instance asks each second whether it is there, and its return is worth a control call at once.",
    )
    cooldown_cap: Duration = Field(
        default=5 * _MINUTE,
        ge=_SECOND,
        le=_HOUR,
        description="The longest rest between two such calls, and so how long deliveries may go on standing still "
        "after a Keycloak is well that was there all the time. One call for all instances together costs Keycloak next to "
        "nothing. The value of cooldown, or less, makes every rest the same, as in the polling service. A longer "
        "Retry-After from Keycloak is kept, up to 1h.",
    )
    health_cache: Duration = Field(
        default=30 * _SECOND,
        ge=_SECOND,
        le=_HOUR,
        description="How long an answer about Keycloak's health counts as known before it is asked again.",
    )
    grace_period: Duration = Field(
        default=24 * _HOUR,
        ge=_MINUTE,
        le=90 * _DAY,
        description="How long the circuit may stay open before `status` calls the outage critical. It changes nothing "
        "else: events are kept and nothing is given up however long it lasts. (In the polling service this was how "
        "long users' cached tokens were honoured; kcsync keeps no tokens of users.)",
    )
    offline_mode_allowed: bool = Field(
        default=True,
        description="Whether events are accepted while Keycloak is away. With false, `start` refuses without Keycloak "
        "and ingest pauses at once; events then wait in Kafka, for up to half of its retention.",
    )
    pause_policy: Literal["immediately", "on_backlog", "never"] = Field(
        default="immediately",
        description="When the Kafka partitions pause by themselves. immediately: while nothing can be delivered, and "
        "while the backlog is full. on_backlog: only while the backlog is full, so that an outage fills the outbox up "
        "to backlog_high first. never: MariaDB takes whatever comes. In every case a partition flows again before "
        "Kafka's retention would remove unread records.",
    )

    # Housekeeping

    cleanup_interval: Duration = Field(
        default=PROFILES[_DEFAULT_PROFILE].cleanup_interval,
        ge=_MINUTE,
        le=_DAY,
        description="How often what is past its retention is removed, in small pieces with rests between. One instance "
        "does it for all.",
        json_schema_extra={"by_profile": True},
    )
    delivered_retention: Retention = Field(
        default=7 * _DAY,
        description="How long a delivered or superseded entry stays to be looked at. What makes replay safe is kept "
        "apart from it.",
        json_schema_extra={"allowed": RETENTIONS},
    )
    dead_letter_retention: Retention = Field(
        default=30 * _DAY,
        description="How long a dead letter stays after it died, and a poison record after it came: how long somebody "
        "has to look at it. A dead letter that others of its user wait behind is kept longer. A retention of "
        "one kind is of its entries alone.",
        json_schema_extra={"allowed": RETENTIONS},
    )
    ledger_retention: Retention = Field(
        default=30 * _DAY,
        description="How long it is remembered at least that an event came (the ledger, and the marks), so that the same "
        "event published again is no second change. It stays longer until Kafka no longer holds the record. Leave it at "
        "no less than the longest time in which a producer may publish an event again, from its spool: later than that, "
        "it is taken for a new event.",
        json_schema_extra={"allowed": RETENTIONS},
    )

    credential_retention: CredentialRetention = Field(
        default=_HOUR,
        description="How long the last password of a user stays in the database after its delivery, sealed; it is needed "
        "to heal a user in doubt, and to give a user whom Keycloak lost the password again. none: only while the user is "
        "in doubt. A duration: so long, and until the next cleanup. last: until the next password; then a user whom "
        "Keycloak loses comes back with the password at any time. In every case it stays while the user is in doubt.",
        json_schema_extra={"allowed": CREDENTIAL_RETENTIONS},
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from environment variables, and secrets from the files these name.

        Raises:
            SettingsError: Something is wrong; it names all wrong, missing, contradicting and unknown variables.
        """
        texts, problems = read_variables(
            environ,
            settings=[variable_of(field) for field in cls.model_fields],
            secrets=[variable_of(field) for field, info in cls.model_fields.items() if is_secret(info)],
        )
        try:
            settings = cls.model_validate(
                {
                    field: texts[variable_of(field)]
                    for field in cls.model_fields
                    if variable_of(field) in texts
                }
            )
        except ValidationError as error:
            problems += [
                problem
                for details in error.errors()
                for problem in problems_in(details, cls.model_fields, texts)
            ]
        else:
            if not problems:
                return settings
        # Out of the handler, so that no ValidationError, which holds the values, hangs on it.
        raise SettingsError(sorted(problems, key=lambda problem: problem.variable))

    def masked(self) -> dict[str, str]:
        """Give every setting as a person reads it, in the order above, with secrets masked."""
        return {field: display(getattr(self, field)) for field in type(self).model_fields}

    def of_kind(self, kind: str) -> Self:
        """Give the settings as they are for one kind of event.

        Raises:
            ValidationError: An override is no value of its setting; never once the settings have been loaded.
        """
        own = {each.setting: each.value for each in self.kind_overrides if each.kind == kind}
        if not own:
            return self
        shared = {field: getattr(self, field) for field in type(self).model_fields}
        return type(self).model_validate({**shared, **own, "kind_overrides": ()})

    @model_validator(mode="before")
    @classmethod
    def _take_from_profile(cls, values: Any) -> Any:
        profile = (
            PROFILES.get(str(values.get("profile", _DEFAULT_PROFILE))) if isinstance(values, dict) else None
        )
        if profile is None:
            return values
        by_profile = {
            "sync_interval": profile.sync_interval,
            "batch_size": profile.batch_size,
            "cleanup_interval": profile.cleanup_interval,
        }
        return by_profile | values

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        found = [
            *self._contradictions_of_time(),
            *self._contradictions_of_pausing(),
            *self._contradictions_of_kafka(),
            *self._contradictions_of_database(),
            *self._contradictions_of_keycloak(),
        ]
        # With the shared settings right, what is wrong with a kind's is wrong with its overrides.
        if not found:
            found = self._contradictions_of_kinds()
        if found:
            raise ContradictionError(found)
        return self

    def _contradictions_of_time(self) -> list[tuple[str, str, str]]:
        found = []
        shortest_lease = 2 * self.keycloak_timeout + LEASE_MARGIN
        if self.lease <= shortest_lease:
            found.append(
                (
                    "lease",
                    f"a call of KCSYNC_KEYCLOAK_TIMEOUT={format_duration(self.keycloak_timeout)} could outlive it",
                    f"more than {format_duration(shortest_lease)}, which is twice that timeout and a margin",
                )
            )
        if self.backoff_cap < self.backoff_base:
            base = format_duration(self.backoff_base)
            found.append(
                ("backoff_cap", "it is below the first wait, KCSYNC_BACKOFF_BASE", f"at least {base}")
            )
        if self.grace_period < self.cooldown:
            cooldown = format_duration(self.cooldown)
            found.append(
                (
                    "grace_period",
                    "it ends before KCSYNC_COOLDOWN lets Keycloak be asked again",
                    f"at least {cooldown}",
                )
            )
        return found

    def _contradictions_of_pausing(self) -> list[tuple[str, str, str]]:
        found = []
        if self.backlog_low >= self.backlog_high:
            high = self.backlog_high
            found.append(
                (
                    "backlog_low",
                    f"it is not below KCSYNC_BACKLOG_HIGH={high}",
                    f"less than {high}, such as 4/5 of it",
                )
            )
        if not self.offline_mode_allowed and self.pause_policy != "immediately":
            found.append(
                (
                    "pause_policy",
                    "KCSYNC_OFFLINE_MODE_ALLOWED=false wants events left in Kafka while Keycloak is away",
                    "immediately",
                )
            )
        return found

    def _contradictions_of_kinds(self) -> list[tuple[str, str, str]]:
        found = []
        for kind in sorted({each.kind for each in self.kind_overrides}):
            texts = {
                variable_of(each.setting): each.value for each in self.kind_overrides if each.kind == kind
            }
            try:
                self.of_kind(kind)
            except ValidationError as error:
                for details in error.errors():
                    for problem in problems_in(details, type(self).model_fields, texts):
                        setting = problem.variable.removeprefix(PREFIX).lower()
                        reason = f"{kind}.{setting}: {problem.reason}"
                        found.append(("kind_overrides", reason, problem.allowed or ""))
        return found

    def _contradictions_of_kafka(self) -> list[tuple[str, str, str]]:
        found = []
        protocol = self.kafka_security_protocol
        sasl = protocol.startswith("SASL_")
        for field, value in (
            ("kafka_sasl_mechanism", self.kafka_sasl_mechanism),
            ("kafka_sasl_username", self.kafka_sasl_username),
            ("kafka_sasl_password", self.kafka_sasl_password),
        ):
            if sasl and value is None:
                found.append(
                    (field, f"KCSYNC_KAFKA_SECURITY_PROTOCOL={protocol} needs it", "a value, or no SASL")
                )
            if not sasl and value is not None:
                found.append(
                    (
                        field,
                        f"KCSYNC_KAFKA_SECURITY_PROTOCOL={protocol} would not use it",
                        "no value, or the protocol SASL_SSL or SASL_PLAINTEXT",
                    )
                )
        if self.kafka_ca_file is not None and not protocol.endswith("SSL"):
            found.append(
                (
                    "kafka_ca_file",
                    f"KCSYNC_KAFKA_SECURITY_PROTOCOL={protocol} would not use it",
                    "no value, or the protocol SSL or SASL_SSL",
                )
            )
        return found

    def _contradictions_of_database(self) -> list[tuple[str, str, str]]:
        files = {
            "database_ca_file": self.database_ca_file,
            "database_cert_file": self.database_cert_file,
            "database_key_file": self.database_key_file,
        }
        if not self.database_tls:
            return [
                (field, "KCSYNC_DATABASE_TLS=false would not use it", "no value, or KCSYNC_DATABASE_TLS=true")
                for field, value in files.items()
                if value is not None
            ]
        return _alone(database_cert_file=self.database_cert_file, database_key_file=self.database_key_file)

    def _contradictions_of_keycloak(self) -> list[tuple[str, str, str]]:
        found = []
        # The default is no claim: who allows one call means one.
        if self.keycloak_calls_floor > max(self.keycloak_calls, 2):
            found.append(
                (
                    "keycloak_calls_floor",
                    f"it is above KCSYNC_KEYCLOAK_CALLS={self.keycloak_calls}",
                    f"at most {self.keycloak_calls}",
                )
            )
        served = set(self.keycloak_realms)
        found += [
            (
                "federation_probes",
                f"it names realm {realm!r}, which is not served",
                "realms of KCSYNC_KEYCLOAK_REALMS",
            )
            for realm in sorted({realm for realm, _ in self.federation_probes} - served)
        ]
        return [*found, *self._contradictions_of_keycloak_files()]

    def _contradictions_of_keycloak_files(self) -> list[tuple[str, str, str]]:
        files = {
            "keycloak_cert_file": self.keycloak_cert_file,
            "keycloak_key_file": self.keycloak_key_file,
        }
        if not self.keycloak_url.startswith("https:"):
            return [
                (
                    field,
                    "KCSYNC_KEYCLOAK_URL begins with http: and would not use it",
                    "no value, or https",
                )
                for field, value in files.items()
                if value is not None
            ]
        return _alone(**files)


def _alone(**files: Path | None) -> list[tuple[str, str, str]]:
    """Of a certificate and its key, the one that is there without the other."""
    missing = [field for field, value in files.items() if value is None]
    return [
        (field, f"KCSYNC_{other.upper()} is not set", "both, or neither")
        for field, value in files.items()
        for other in missing
        if value is not None
    ]
