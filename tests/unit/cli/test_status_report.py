from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from consumer.circuit.breaker import CircuitState
from consumer.cli.banner import start_banner
from consumer.cli.exit_codes import ExitCode
from consumer.cli.read_status import question_of
from consumer.cli.render import Unknown, clock_time
from consumer.cli.status_report import (
    Calls,
    Configuration,
    Connection,
    Drain,
    HeldLane,
    Ingest,
    Instance,
    LanesFor,
    Mode,
    Partition,
    Question,
    QueueMetrics,
    RealmFault,
    StatusReport,
    Timestamps,
    Unreachable,
    exit_code,
    mode,
    mode_of,
    outage_is_critical,
    render_text,
    to_json,
)
from consumer.drain.reasons import advice_of
from consumer.settings import Settings
from consumer.summary import Progress, outage_line, summary_line
from tests.unit.circuit.circuit_in_memory import Clock, MemoryCircuit

FLOWING = {"paused": False, "paused_for": [], "yields_to_retention": False}
NOW = datetime(2026, 2, 7, 10, 31, tzinfo=UTC)
GONE = Unknown("the database did not answer")
SETTINGS = Settings.load(
    {
        "KCSYNC_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
        "KCSYNC_DATABASE_DSN": "mysql://u:geheim@h/d",
        "KCSYNC_KEYCLOAK_URL": "http://127.0.0.1:8080",
        "KCSYNC_KEYCLOAK_REALMS": "staff",
        "KCSYNC_KEYCLOAK_CLIENT_ID": "kcsync",
        "KCSYNC_KEYCLOAK_CLIENT_SECRET": "geheim",
        "KCSYNC_KEYS_DIR": "/keys",
        "KCSYNC_INSTANCE": "host-1",
    }
)

INGESTS = Instance("reads", ("ingest",), 0, None)
DRAINS = Instance("delivers", ("drain",), 256, NOW + timedelta(seconds=25))
FAULT = RealmFault(
    "staff", "forbidden", "control call: HTTP 403; give the client its role", NOW - timedelta(minutes=5)
)
HEALTHY = StatusReport(
    version="0.1.0",
    generated_at=NOW,
    connection=Connection(available=True, circuit_state=CircuitState.CLOSED, failure_count=0),
    timestamps=Timestamps(last_success=NOW - timedelta(seconds=15), last_health_check=NOW),
    queue=QueueMetrics(
        pending_syncs=5,
        held=0,
        delivered=120,
        dead_letters=0,
        superseded=2,
        poison=0,
        duplicates=1,
        oldest_pending=timedelta(minutes=3),
        cached_tokens=Unknown("held in each instance"),
    ),
    configuration=Configuration.of(SETTINGS),
    ingest=Ingest(
        topic="kcsync.user-events",
        group="kcsync",
        partitions=(
            Partition(0, watermark=42, writer="host-1", lag=0, paused=False, log_start=17),
            Partition(1, watermark=None, writer=None, lag=Unknown("Kafka did not answer"), paused=False),
        ),
    ),
    drain=Drain(
        instances=(
            Instance(
                "host-1",
                ("ingest", "drain"),
                256,
                NOW + timedelta(seconds=25),
                Calls(12, 16, 25.0, "more calls at once serve more", NOW - timedelta(minutes=3)),
            ),
        ),
        lanes_ready=3,
        lanes_waiting=1,
        lanes_held=0,
    ),
)
OPEN = replace(
    HEALTHY,
    connection=Connection(
        available=False,
        circuit_state=CircuitState.OPEN,
        failure_count=3,
        opened_at=NOW - timedelta(hours=23),
        reason="bad_gateway: control call: HTTP 502; see the proxy",
    ),
)
LOST = replace(
    HEALTHY,
    connection=Connection(available=GONE, circuit_state=GONE, failure_count=GONE, opened_at=GONE),
    timestamps=Timestamps(GONE, None),
    queue=QueueMetrics(GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE, GONE),
    ingest=replace(HEALTHY.ingest, partitions=GONE),
    drain=Drain(GONE, GONE, GONE, GONE),
    unreachable=(Unreachable("MariaDB", "connection refused at 127.0.0.1:3306"),),
)


def told(reason: str) -> str:
    """What a screen says of a reason."""
    advice = advice_of(reason)
    assert advice is not None
    return f"{advice.meaning}: {advice.remedy}"


class TestMode:
    @pytest.mark.parametrize(
        ("circuit", "realm_fault", "maintenance", "expected"),
        [
            (CircuitState.CLOSED, False, False, Mode.NORMAL),
            (CircuitState.CLOSED, True, False, Mode.DEGRADED),
            (CircuitState.HALF_OPEN, False, False, Mode.DEGRADED),
            (CircuitState.OPEN, True, False, Mode.OFFLINE),
            (CircuitState.OPEN, False, True, Mode.MAINTENANCE),
            (GONE, True, False, GONE),
            (GONE, False, True, Mode.MAINTENANCE),
        ],
    )
    def test_follows_from_what_is_known(
        self,
        circuit: CircuitState | Unknown,
        *,
        realm_fault: bool,
        maintenance: bool,
        expected: Mode | Unknown,
    ) -> None:
        assert mode(circuit, realm_fault=realm_fault, maintenance=maintenance) == expected


class TestExitCode:
    @pytest.mark.parametrize(
        ("report", "expected"),
        [
            (HEALTHY, ExitCode.HEALTHY),
            (OPEN, ExitCode.DEGRADED),
            (LOST, ExitCode.UNREACHABLE),
            (
                replace(
                    HEALTHY,
                    connection=replace(HEALTHY.connection, realm_faults=(FAULT,)),
                ),
                ExitCode.DEGRADED,
            ),
            (replace(HEALTHY, connection=replace(HEALTHY.connection, maintenance=True)), ExitCode.DEGRADED),
            (replace(HEALTHY, drain=replace(HEALTHY.drain, instances=())), ExitCode.DEGRADED),
            (replace(HEALTHY, drain=replace(HEALTHY.drain, instances=(INGESTS,))), ExitCode.DEGRADED),
            (replace(HEALTHY, drain=replace(HEALTHY.drain, instances=(DRAINS,))), ExitCode.DEGRADED),
            (replace(HEALTHY, drain=replace(HEALTHY.drain, instances=(INGESTS, DRAINS))), ExitCode.HEALTHY),
            (
                replace(
                    HEALTHY,
                    ingest=replace(HEALTHY.ingest, partitions=(Partition(0, 1, "a", 0, paused=True),)),
                ),
                ExitCode.DEGRADED,
            ),
            (
                replace(
                    HEALTHY,
                    ingest=replace(
                        HEALTHY.ingest,
                        partitions=(
                            Partition(
                                0, 1, "a", 0, paused=False, paused_for=("backlog",), yields_to_retention=True
                            ),
                        ),
                    ),
                ),
                ExitCode.DEGRADED,
            ),
            (replace(HEALTHY, queue=replace(HEALTHY.queue, dead_letters=1)), ExitCode.DEAD_LETTERS),
            (replace(HEALTHY, queue=replace(HEALTHY.queue, poison=1)), ExitCode.DEAD_LETTERS),
            (replace(OPEN, queue=replace(HEALTHY.queue, dead_letters=1)), ExitCode.DEGRADED),
            (replace(OPEN, unreachable=(Unreachable("Kafka", "refused"),)), ExitCode.UNREACHABLE),
        ],
    )
    def test_is_the_worst_of_what_the_report_shows(self, report: StatusReport, expected: ExitCode) -> None:
        assert exit_code(report) is expected


class TestOutage:
    @pytest.mark.parametrize(("hours", "critical"), [(23, False), (24, False), (25, True)])
    def test_is_critical_beyond_the_grace_period(self, hours: int, *, critical: bool) -> None:
        report = replace(OPEN, connection=replace(OPEN.connection, opened_at=NOW - timedelta(hours=hours)))

        assert outage_is_critical(report) is critical
        assert ("CRITICAL, longer than the grace period of 24h" in render_text(report)) is critical
        assert to_json(report)["connection"]["outage_critical"] is critical

    def test_is_not_claimed_without_knowing(self) -> None:
        assert not outage_is_critical(LOST)
        assert not outage_is_critical(HEALTHY)


class TestText:
    def test_has_the_groups_of_the_polling_service_and_ours(self) -> None:
        assert render_text(HEALTHY).splitlines() == [
            "Keycloak Resilience Status",
            "======================================================================",
            "Connection:",
            "  Available:           True",
            "  Circuit State:       CLOSED",
            "  Mode:                NORMAL",
            "  Failure Count:       0",
            "Timestamps:",
            "  Last Success:        2026-02-07 10:30:45+00:00 (15s ago)",
            "  Last Health Check:   2026-02-07 10:31:00+00:00 (0s ago)",
            "Queue Metrics:",
            "  Pending Syncs:       5",
            "  Oldest Pending:      3m",
            "  Held:                0",
            "  Delivered:           120",
            "  Dead Letters:        0",
            "  Superseded:          2",
            "  Poison:              0",
            "  Duplicates:          1",
            "  Cached Tokens:       unknown (held in each instance)",
            "Configuration:",
            "  Failure Threshold:   3",
            "  Cooldown:            60s",
            "  Grace Period:        24h",
            "  Health Cache:        30s",
            "  Offline Mode:        True",
            "  Sync Interval:       60s",
            "  Batch Size:          100",
            "  Cleanup Interval:    1h",
            "  Pause Policy:        immediately",
            "Ingest:",
            "  Topic:               kcsync.user-events",
            "  Group:               kcsync",
            "  Partition  Log Start  Watermark  Lag                             Paused  Writer",
            "  0          17         42         0                               False   host-1",
            "  1          unknown    none       unknown (Kafka did not answer)  False   none",
            "Drain:",
            "  Lanes Ready:         3",
            "  Lanes Waiting:       1",
            "  Lanes Held:          0",
            "  Instance  Roles         Shards  Lease Ends  Calls           Limit Changed",
            "  host-1    ingest+drain  256     in 25s      12 of 16, 25/s  3m ago: more calls at once serve more",
            "======================================================================",
        ]

    def test_shows_times_as_the_clocks_of_the_place_do(self) -> None:
        there = replace(HEALTHY, generated_at=NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))

        assert "  Last Success:        2026-02-07 16:00:45+05:30 (15s ago)\n" in render_text(there)

    def test_an_outage_says_since_when(self) -> None:
        text = render_text(OPEN)

        assert "  Circuit State:       OPEN (since 2026-02-06 11:31:00+00:00, for 23h)\n" in text
        assert "  Reason:              bad_gateway: control call: HTTP 502; see the proxy\n" in text
        assert "  Mode:                OFFLINE\n" in text

    def test_a_partition_says_what_holds_it(self) -> None:
        partitions = (
            Partition(0, 1, "a", 9, paused=True, paused_for=("backlog", "circuit")),
            Partition(1, 1, "a", 9, paused=False, paused_for=("circuit",), yields_to_retention=True),
        )

        text = render_text(replace(HEALTHY, ingest=replace(HEALTHY.ingest, partitions=partitions)))

        assert "True (backlog, circuit)" in text
        assert "False (circuit; yields to retention)" in text

    def test_what_is_not_known_is_never_zero(self) -> None:
        text = render_text(LOST)

        assert "  Pending Syncs:       unknown (the database did not answer)\n" in text
        assert "  Mode:                unknown (the database did not answer)\n" in text
        assert "  Instances:           unknown (the database did not answer)\n" in text
        assert "  Partitions:          unknown (the database did not answer)\n" in text
        assert "  Last Health Check:   never\n" in text
        assert "Unreachable:\n  MariaDB:             connection refused at 127.0.0.1:3306\n" in text
        # Connection 4, Timestamps 1, Queue Metrics 9, Ingest 1, Drain 4.
        assert text.count("unknown (") == 19

    def test_names_a_realm_that_keeps_us_out(self) -> None:
        text = render_text(replace(HEALTHY, connection=replace(HEALTHY.connection, realm_faults=(FAULT,))))

        assert "  Realm Fault:         staff: forbidden, since 2026-02-07 10:26:00+00:00 (5m ago)\n" in text
        assert "  Why:                 control call: HTTP 403; give the client its role\n" in text

    def test_says_what_to_do_when_nobody_drains(self) -> None:
        text = render_text(replace(HEALTHY, drain=replace(HEALTHY.drain, instances=())))

        assert "none alive: nothing is read or delivered — kcsync start" in text

    @pytest.mark.parametrize(
        ("alone", "sentence"),
        [
            (DRAINS, "ingest: nothing is read — kcsync start --role ingest"),
            (INGESTS, "drain: nothing is delivered — kcsync start --role drain"),
        ],
    )
    def test_names_the_role_that_nobody_has(self, alone: Instance, sentence: str) -> None:
        text = render_text(replace(HEALTHY, drain=replace(HEALTHY.drain, instances=(alone,))))

        assert f"  Role Missing:        {sentence}\n" in text

    def test_shows_no_shards_of_a_process_that_takes_none(self) -> None:
        text = render_text(replace(HEALTHY, drain=replace(HEALTHY.drain, instances=(INGESTS, DRAINS))))

        assert "  reads     ingest  -       -           -        -\n" in text
        assert "  delivers  drain   256     in 25s      unknown  unknown\n" in text

    def test_shows_the_limit_of_calls_without_a_cap_as_it_began(self) -> None:
        fresh = replace(DRAINS, calls=Calls(4, 16, None, "as at the start", None))

        text = render_text(replace(HEALTHY, drain=replace(HEALTHY.drain, instances=(fresh,))))

        assert "  in 25s      4 of 16  as at the start\n" in text


class TestJson:
    def test_is_the_whole_report(self) -> None:
        assert json.loads(json.dumps(to_json(HEALTHY))) == {
            "schema_version": 1,
            "version": "0.1.0",
            "generated_at": "2026-02-07T10:31:00Z",
            "connection": {
                "available": True,
                "circuit_state": "CLOSED",
                "question": None,
                "mode": "NORMAL",
                "failure_count": 0,
                "opened_at": None,
                "reason": None,
                "outage_critical": False,
                "realm_faults": [],
                "maintenance": False,
                "stops": [],
            },
            "timestamps": {
                "last_success": "2026-02-07T10:30:45Z",
                "last_health_check": "2026-02-07T10:31:00Z",
            },
            "queue": {
                "pending_syncs": 5,
                "held": 0,
                "delivered": 120,
                "dead_letters": 0,
                "superseded": 2,
                "poison": 0,
                "duplicates": 1,
                "oldest_pending_seconds": 180.0,
                "cached_tokens": None,
            },
            "configuration": {
                "failure_threshold": 3,
                "cooldown_seconds": 60.0,
                "grace_period_seconds": 86400.0,
                "health_cache_seconds": 30.0,
                "offline_mode_allowed": True,
                "sync_interval_seconds": 60.0,
                "batch_size": 100,
                "cleanup_interval_seconds": 3600.0,
                "pause_policy": "immediately",
            },
            "ingest": {
                "topic": "kcsync.user-events",
                "group": "kcsync",
                "partitions": [
                    {"number": 0, "watermark": 42, "writer": "host-1", "lag": 0, "log_start": 17, **FLOWING},
                    {
                        "number": 1,
                        "watermark": None,
                        "writer": None,
                        "lag": None,
                        "log_start": None,
                        **FLOWING,
                    },
                ],
            },
            "drain": {
                "instances": [
                    {
                        "name": "host-1",
                        "roles": ["ingest", "drain"],
                        "shards": 256,
                        "lease_until": "2026-02-07T10:31:25Z",
                        "calls": {
                            "limit": 12,
                            "ceiling": 16,
                            "per_second": 25.0,
                            "reason": "more calls at once serve more",
                            "changed_at": "2026-02-07T10:28:00Z",
                        },
                    }
                ],
                "lanes_ready": 3,
                "lanes_waiting": 1,
                "lanes_held": 0,
                "held": [],
                "waiting_for": [],
                "heals_refused": [],
                "for_somebody": [],
                "waits": [],
            },
            "unreachable": [],
            "exit_code": 0,
            "unknown": {
                "queue.cached_tokens": "held in each instance",
                "ingest.partitions[1].lag": "Kafka did not answer",
            },
        }

    def test_a_null_says_why_if_it_is_not_known(self) -> None:
        report = to_json(LOST)

        assert report["queue"]["pending_syncs"] is None
        assert report["queue"]["oldest_pending_seconds"] is None
        assert report["connection"]["mode"] is None
        assert report["unknown"]["queue.pending_syncs"] == "the database did not answer"
        assert report["unknown"]["queue.oldest_pending_seconds"] == "the database did not answer"
        assert report["unknown"]["connection.mode"] == "the database did not answer"
        # Never, which is known.
        assert report["timestamps"]["last_health_check"] is None
        assert "timestamps.last_health_check" not in report["unknown"]
        assert report["exit_code"] == 5
        assert report["unreachable"] == [
            {"what": "MariaDB", "reason": "connection refused at 127.0.0.1:3306"}
        ]

    def test_times_are_utc_whatever_they_came_in(self) -> None:
        moved = replace(HEALTHY, generated_at=NOW.astimezone(timezone(timedelta(hours=5))))

        assert to_json(moved)["generated_at"] == "2026-02-07T10:31:00Z"


class TestStartBanner:
    def test_has_version_settings_and_status_but_no_secret(self) -> None:
        banner = start_banner(SETTINGS.masked(), HEALTHY)

        lines = banner.splitlines()
        assert lines[0] == "Keycloak Sync Service starting..."
        assert lines[1].split() == ["Version:", "0.1.0"]
        assert "  sync_interval:           60s" in lines
        assert "  database_dsn:            mysql://u:****@h:3306/d" in lines
        status = lines[lines.index("Current Status:") + 1 :]
        assert [line.split(":", 1)[1].strip() for line in status] == [
            "Available",
            "CLOSED",
            "NORMAL",
            "5",
            "0",
            "unknown (held in each instance)",
            "2026-02-07 10:30:45+00:00 (15s ago)",
        ]
        assert "geheim" not in banner

    @pytest.mark.parametrize(
        ("report", "text"), [(OPEN, "Unavailable"), (LOST, "unknown (the database did not answer)")]
    )
    def test_says_whether_keycloak_is_there(self, report: StatusReport, text: str) -> None:
        assert f"  Keycloak:                {text}\n" in start_banner({}, report)


def test_the_summary_line_begins_as_the_polling_services_did() -> None:
    line = summary_line(Progress(processed=5, total=8, retried=1, dead=0, pending=3))

    assert line == "Processed 5 sync items (total: 8, retried: 1, dead: 0, pending: 3)"


def test_the_summary_line_tells_of_users_who_were_made_again() -> None:
    line = summary_line(Progress(processed=5, total=8, retried=1, dead=0, pending=3, restored=2))

    assert line == "Processed 5 sync items (total: 8, retried: 1, dead: 0, pending: 3, restored: 2)"


def test_the_mode_of_a_report_is_never_another_than_its_circuit_says() -> None:
    assert mode_of(HEALTHY) is Mode.NORMAL
    assert mode_of(OPEN) is Mode.OFFLINE
    assert mode_of(LOST) == GONE


class TestWhatIsWaitedFor:
    REPORT = replace(
        HEALTHY,
        drain=replace(
            HEALTHY.drain,
            waiting_for=(LanesFor("email_in_use", 2), LanesFor("roles_unreadable", 1)),
            for_somebody=(LanesFor("roles_unreadable", 1),),
            waits=(HeldLane("staff", "e-3", "PENDING", "roles_unreadable", NOW - timedelta(minutes=9), 4),),
            heals_refused=(LanesFor("heal_refused_by_history", 3),),
        ),
    )

    def test_is_shown_with_what_to_do(self) -> None:
        text = render_text(self.REPORT)

        assert f"  Waiting For:         email_in_use (2 users) — {told('email_in_use')}\n" in text
        assert f"  Needs Somebody:      roles_unreadable (1 user) — {told('roles_unreadable')}\n" in text
        assert text.count("roles_unreadable (1 user)") == 1
        assert "  Heal Refused:        heal_refused_by_history (3 users) — " in text

    def test_names_the_event_that_waits_for_somebody_and_since_when(self) -> None:
        lines = [line.split() for line in render_text(self.REPORT).splitlines()]

        since = ["2026-02-07", "10:22:00+00:00", "(9m", "ago)"]
        assert ["PENDING", "roles_unreadable", *since, "4", "staff", "e-3"] in lines
        assert ["Who:", "kcsync", "held", "names", "the", "users,"] in [line[:6] for line in lines]

    def test_is_not_well_while_somebody_is_needed(self) -> None:
        assert exit_code(self.REPORT) is ExitCode.DEAD_LETTERS

    def test_a_missing_key_holds_up_more_than_one_user(self) -> None:
        drain = replace(HEALTHY.drain, for_somebody=(LanesFor("unknown_sealing_key", 1),))
        report = replace(HEALTHY, drain=drain)

        assert exit_code(report) is ExitCode.DEGRADED
        assert "kcsync keys list" in render_text(report)

    def test_what_ends_by_itself_does_not(self) -> None:
        drain = replace(HEALTHY.drain, waiting_for=(LanesFor("email_in_use", 2),))

        assert exit_code(replace(HEALTHY, drain=drain)) is ExitCode.HEALTHY


class TestWhatIsHeld:
    REPORT = replace(
        HEALTHY,
        drain=replace(
            HEALTHY.drain,
            held=(
                HeldLane("staff", "e-7", "HELD", "suspected_cause", NOW - timedelta(minutes=5), 12),
                HeldLane("staff", "e-9", "DEAD_LETTER", "email_in_use", None, 1),
            ),
        ),
    )

    def test_is_shown_with_its_reason_and_what_stands_behind_it(self) -> None:
        text = render_text(self.REPORT)

        lines = [line.split() for line in text.splitlines()]
        since = ["2026-02-07", "10:26:00+00:00", "(5m", "ago)"]
        assert ["HELD", "suspected_cause", *since, "12", "staff", "e-7"] in lines
        assert ["DEAD_LETTER", "email_in_use", "unknown", "1", "staff", "e-9"] in lines

    def test_needs_somebody(self) -> None:
        report = replace(HEALTHY, queue=replace(HEALTHY.queue, held=1))

        assert exit_code(report) is ExitCode.DEAD_LETTERS


class TestWhatIsAskedInAnOutage:
    def rows(self, **question: Any) -> str:
        connection = replace(OPEN.connection, question=Question(**question))
        return render_text(replace(OPEN, connection=connection))

    def test_is_said_with_what_the_last_question_met(self) -> None:
        text = self.rows(
            asks_at=NOW + timedelta(seconds=1),
            asked_at=NOW - timedelta(seconds=1),
            asker="host-1",
            answer="connection refused",
        )

        assert f"  Asks Next:           {clock_time(NOW + timedelta(seconds=1), NOW)} (in 1s)\n" in text
        assert "  Control Call:        as soon as it answers that it is there\n" in text
        assert "  Last Answer:         connection refused, " in text
        assert "(1s ago), to host-1\n" in text

    def test_is_a_control_call_at_the_latest_where_a_question_may_not_be_answered(self) -> None:
        text = self.rows(asks_at=NOW, control_call_at=NOW + timedelta(seconds=43))

        assert "as soon as it answers that it is there, and at the latest " in text
        assert "(in 43s)\n" in text

    def test_is_nothing_where_nobody_asks(self) -> None:
        text = self.rows(asks_at=None, why_not="maintenance")

        assert "  Asks Next:           nobody asks: maintenance\n" in text
        assert "Control Call" not in text

    @pytest.mark.parametrize(
        ("changes", "stopped", "why_not"),
        [
            ({}, False, None),
            ({"rest_until": 1900.0}, False, "Keycloak asked to be left alone until "),
            ({}, True, "maintenance"),
            ({"asker_deadline": 900.0, "changed_at": 900.0}, False, "no instance that delivers is alive"),
            # Just opened: whoever runs has not had the time.
            ({"asker": None, "asker_deadline": None}, False, None),
        ],
    )
    def test_is_found_in_the_shared_row(
        self,
        changes: dict[str, Any],
        stopped: bool,  # noqa: FBT001 - a row of a table
        why_not: str | None,
    ) -> None:
        circuit = MemoryCircuit(Clock())
        circuit.state, circuit.met, circuit.said, circuit.asked_at = "OPEN", "AWAY", "refused", 999.5
        circuit.asker, circuit.asker_deadline = "host-1", 1004.0
        for name, value in changes.items():
            setattr(circuit, name, value)

        question = question_of(asyncio.run(circuit.read()), NOW, stopped=stopped)

        assert question is not None
        assert (question.why_not or "").startswith(why_not or "")
        assert (question.why_not is None) == (why_not is None)
        assert (question.answer, question.asked_at) == ("refused", NOW - timedelta(seconds=0.5))
        if not stopped:
            later = 900.0 if "rest_until" in changes else 0.5
            assert question.asks_at == NOW + timedelta(seconds=later)
        # Nobody listens: a control call would reach nobody.
        assert question.control_call_at is None

    def test_is_nothing_while_the_circuit_is_closed(self) -> None:
        assert question_of(asyncio.run(MemoryCircuit(Clock()).read()), NOW, stopped=False) is None


@pytest.mark.parametrize(
    ("opened", "asks_in", "expected"),
    [
        (datetime(2026, 2, 7, 9, 33, 33, tzinfo=UTC), 0.4, " since 09:33:33, asks again in 1s)"),
        (
            datetime(2026, 2, 6, 9, 33, 33, tzinfo=UTC),
            754.0,
            " since 2026-02-06 09:33:33, asks again in 12m34s)",
        ),
        (None, 12.0, ", asks again in 12s)"),
    ],
)
def test_the_line_of_an_interval_in_an_outage_says_since_when_and_when_it_asks_again(
    opened: datetime | None, asks_in: float, expected: str
) -> None:
    now = datetime(2026, 2, 7, 10, tzinfo=UTC)

    line = outage_line(state="OPEN", opened_at=opened, now=now, asks_in=asks_in, pending=1900)

    assert line == f"Keycloak unavailable (circuit OPEN{expected}: no sync; pending 1900"


def test_the_line_of_an_interval_in_which_keycloak_is_asked_says_so() -> None:
    line = outage_line(state="HALF_OPEN", opened_at=None, now=NOW, asks_in=1.0, pending=3)

    assert line == "Keycloak unavailable (circuit HALF_OPEN, asks now): no sync; pending 3"
