from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from consumer.database_address import DatabaseAddress
from consumer.environment import SettingsError
from consumer.setting_texts import allowed_values, is_secret, variable_of
from consumer.settings import PROFILES, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED: Mapping[str, str] = {
    "KCSYNC_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "KCSYNC_DATABASE_DSN": "mysql://kcsync:db-geheim@127.0.0.1:3306/kcsync",
    "KCSYNC_KEYCLOAK_URL": "http://127.0.0.1:8080/",
    "KCSYNC_KEYCLOAK_REALMS": "staff, customers",
    "KCSYNC_KEYCLOAK_CLIENT_ID": "kcsync",
    "KCSYNC_KEYCLOAK_CLIENT_SECRET": "client-geheim",
    "KCSYNC_KEYS_DIR": "/etc/kcsync/keys",
}
SASL: Mapping[str, str] = {
    "KCSYNC_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
    "KCSYNC_KAFKA_SASL_MECHANISM": "scram-sha-512",
    "KCSYNC_KAFKA_SASL_USERNAME": "svc",
    "KCSYNC_KAFKA_SASL_PASSWORD": "kafka-geheim",
}

DURATIONS = [field for field, info in Settings.model_fields.items() if "timedelta" in str(info.annotation)]


@pytest.fixture(autouse=True)
def no_settings_of_this_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KCSYNC_")]:
        monkeypatch.delenv(name)


def load(**more: str) -> Settings:
    return Settings.load({**REQUIRED, **{f"KCSYNC_{name.upper()}": value for name, value in more.items()}})


def refusal(environ: Mapping[str, str]) -> SettingsError:
    with pytest.raises(SettingsError) as error:
        Settings.load(environ)
    return error.value


class TestDefaults:
    def test_only_seven_variables_are_required(self) -> None:
        error = refusal({})

        assert {problem.variable for problem in error.problems} == set(REQUIRED)
        assert {problem.reason for problem in error.problems} == {"it is required and not set"}
        for left_out in REQUIRED:
            alone = refusal({name: value for name, value in REQUIRED.items() if name != left_out})
            assert [problem.variable for problem in alone.problems] == [left_out]

    def test_are_those_of_the_polling_service_and_the_design(self) -> None:
        settings = load()

        assert settings.kafka_topic == "kcsync.user-events"
        assert settings.kafka_group == "kcsync"
        assert settings.keycloak_realms == ("staff", "customers")
        assert settings.keycloak_url == "http://127.0.0.1:8080"
        assert settings.database_dsn == DatabaseAddress("127.0.0.1", 3306, "kcsync", "db-geheim", "kcsync")
        assert settings.keys_dir == Path("/etc/kcsync/keys")
        assert settings.delete_mode == "delete"
        assert (settings.max_attempts, settings.backoff_factor) == (5, 4)
        assert (settings.backoff_base, settings.backoff_cap) == (timedelta(seconds=1), timedelta(minutes=5))
        assert settings.failure_threshold == 3
        assert (settings.cooldown, settings.health_cache) == (timedelta(seconds=60), timedelta(seconds=30))
        assert settings.cooldown_cap == timedelta(minutes=5)
        assert settings.grace_period == timedelta(hours=24)
        assert settings.offline_mode_allowed is True
        assert (settings.lease, settings.keycloak_timeout) == (timedelta(seconds=30), timedelta(seconds=10))
        assert (settings.delivered_retention, settings.dead_letter_retention) == (
            timedelta(days=7),
            timedelta(days=30),
        )
        assert settings.ledger_retention == timedelta(days=30)
        assert settings.role == "all"
        assert (settings.log_format, settings.log_level) == ("text", "INFO")

    def test_two_processes_never_share_a_name(self) -> None:
        assert load().instance != load().instance
        assert str(os.getpid()) in load().instance

    def test_every_field_is_explained(self) -> None:
        for field, info in Settings.model_fields.items():
            assert info.description, field
            assert info.description.endswith((".", ".)")), field
            assert allowed_values(Settings.model_fields[field]), field


class TestRetentions:
    def test_never_keeps_for_ever(self) -> None:
        settings = load(delivered_retention="never", dead_letter_retention="never")

        assert (settings.delivered_retention, settings.dead_letter_retention) == ("never", "never")
        assert settings.masked()["delivered_retention"] == "never"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("59m", "it is too small"),
            ("3651d", "it is too large"),
            ("for ever", "it is not a duration"),
            ("-1d", "a duration cannot be negative"),
        ],
    )
    def test_have_bounds_otherwise(self, value: str, reason: str) -> None:
        (problem,) = refusal({**REQUIRED, "KCSYNC_DELIVERED_RETENTION": value}).problems

        assert (problem.variable, problem.reason) == ("KCSYNC_DELIVERED_RETENTION", reason)
        assert problem.allowed == "never, or a duration from 1h to 3650d, such as 36h or 30d"


class TestTlsOfTheDatabase:
    def test_is_off_unless_asked_for(self) -> None:
        assert load().database_tls is False
        assert load(database_tls="true").database_ca_file is None

    @pytest.mark.parametrize("field", ["database_ca_file", "database_cert_file", "database_key_file"])
    def test_a_file_without_it_is_a_contradiction(self, field: str) -> None:
        (problem,) = refusal({**REQUIRED, f"KCSYNC_{field.upper()}": "/x.pem"}).problems

        assert problem.variable == f"KCSYNC_{field.upper()}"
        assert problem.reason == "KCSYNC_DATABASE_TLS=false would not use it"

    @pytest.mark.parametrize(
        ("given", "missing"),
        [("KCSYNC_DATABASE_CERT_FILE", "KEY_FILE"), ("KCSYNC_DATABASE_KEY_FILE", "CERT_FILE")],
    )
    def test_certificate_and_key_belong_together(self, given: str, missing: str) -> None:
        (problem,) = refusal({**REQUIRED, "KCSYNC_DATABASE_TLS": "true", given: "/x.pem"}).problems

        assert (problem.variable, problem.reason) == (given, f"KCSYNC_DATABASE_{missing} is not set")


HTTPS = {**REQUIRED, "KCSYNC_KEYCLOAK_URL": "https://sso.example.org"}


class TestOurCertificateForKeycloak:
    def test_goes_with_its_key(self) -> None:
        files = {"KCSYNC_KEYCLOAK_CERT_FILE": "/c.pem", "KCSYNC_KEYCLOAK_KEY_FILE": "/k.pem"}

        assert Settings.load({**HTTPS, **files}).keycloak_key_file == Path("/k.pem")

    @pytest.mark.parametrize("field", ["KCSYNC_KEYCLOAK_CERT_FILE", "KCSYNC_KEYCLOAK_KEY_FILE"])
    def test_without_https_is_a_contradiction(self, field: str) -> None:
        (problem,) = refusal({**REQUIRED, field: "/x.pem"}).problems

        assert problem.variable == field
        assert problem.reason == "KCSYNC_KEYCLOAK_URL begins with http: and would not use it"

    @pytest.mark.parametrize(
        ("given", "missing"),
        [("KCSYNC_KEYCLOAK_CERT_FILE", "KEY_FILE"), ("KCSYNC_KEYCLOAK_KEY_FILE", "CERT_FILE")],
    )
    def test_and_its_key_belong_together(self, given: str, missing: str) -> None:
        (problem,) = refusal({**HTTPS, given: "/x.pem"}).problems

        assert (problem.variable, problem.reason) == (given, f"KCSYNC_KEYCLOAK_{missing} is not set")


class TestProfiles:
    @pytest.mark.parametrize(
        ("profile", "sync", "batch", "cleanup"),
        [("development", 30, 50, 1_800), ("production", 60, 100, 3_600), ("high-volume", 30, 200, 7_200)],
    )
    def test_choose_three_values(self, profile: str, sync: int, batch: int, cleanup: int) -> None:
        settings = load(profile=profile)

        assert settings.sync_interval == timedelta(seconds=sync)
        assert settings.batch_size == batch
        assert settings.cleanup_interval == timedelta(seconds=cleanup)

    def test_production_is_the_default(self) -> None:
        assert load().profile == "production"
        assert load().sync_interval == PROFILES["production"].sync_interval

    def test_a_value_set_alone_goes_before_the_profile(self) -> None:
        settings = load(profile="high-volume", batch_size="7")

        assert (settings.batch_size, settings.cleanup_interval) == (7, timedelta(hours=2))


class TestReading:
    @pytest.mark.parametrize("field", DURATIONS)
    @pytest.mark.parametrize("text", ["500ms", "30", "30s", "5m", "2h", "7d", "1h30m", "PT30S"])
    def test_every_duration_reads_every_way_of_writing_one(self, field: str, text: str) -> None:
        """It may be out of bounds, or not go with another setting; it is never unreadable."""
        try:
            load(**{field: text})
        except SettingsError as error:
            for problem in error.problems:
                assert problem.reason != "it is not a duration"

    def test_durations_are_read_everywhere(self) -> None:
        settings = load(cooldown="PT5S", delivered_retention="1d12h", sync_interval="5", backoff_base="500ms")

        assert settings.cooldown == timedelta(seconds=5)
        assert settings.delivered_retention == timedelta(hours=36)
        assert settings.sync_interval == timedelta(seconds=5)
        assert settings.backoff_base == timedelta(milliseconds=500)

    def test_an_empty_variable_counts_as_unset(self) -> None:
        assert load(profile="", cooldown="").cooldown == timedelta(seconds=60)
        assert [p.variable for p in refusal({**REQUIRED, "KCSYNC_KEYS_DIR": ""}).problems] == [
            "KCSYNC_KEYS_DIR"
        ]

    def test_choices_in_capitals_are_read_in_any_case(self) -> None:
        settings = Settings.load({**REQUIRED, **SASL, "KCSYNC_LOG_LEVEL": "debug"})

        assert settings.kafka_security_protocol == "SASL_SSL"
        assert settings.kafka_sasl_mechanism == "SCRAM-SHA-512"
        assert settings.log_level == "DEBUG"

    def test_the_process_environment_is_not_read_behind_the_callers_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KCSYNC_KAFKA_TOPIC", "elsewhere")

        assert load().kafka_topic == "kcsync.user-events"

    def test_settings_never_change(self) -> None:
        settings = load()

        with pytest.raises(ValidationError):
            settings.batch_size = 5

    @pytest.mark.parametrize(
        ("field", "value", "reason", "allowed"),
        [
            ("batch_size", "many", "it is not a whole number", "a whole number from 1 to 5000"),
            ("batch_size", "0", "it is too small", "a whole number from 1 to 5000"),
            ("keycloak_calls", "257", "it is too large", "a whole number from 1 to 256"),
            ("backoff_factor", "x", "it is not a number", "a number from 1 to 10"),
            (
                "cooldown",
                "soon",
                "it is not a duration",
                "a duration from 1s to 1h, such as 30s, 5m or 1h30m",
            ),
            ("cooldown", "2h", "it is too large", "a duration from 1s to 1h, such as 30s, 5m or 1h30m"),
            ("profile", "staging", "there is no such choice", "development, production or high-volume"),
            ("pause_policy", "later", "there is no such choice", "immediately, on_backlog or never"),
            ("offline_mode_allowed", "maybe", "it is neither true nor false", "true or false"),
            (
                "keycloak_url",
                "keycloak:8080",
                "it is not a web address",
                "http://host[:port][/path] or https://…",
            ),
            (
                "keycloak_url",
                "ftp://keycloak",
                "it is not a web address",
                "http://host[:port][/path] or https://…",
            ),
            ("keycloak_realms", "a,,b", "it is empty or has an empty name in it", None),
            ("keycloak_realms", "a,a", "it names a realm twice", None),
            (
                "kafka_bootstrap",
                "kafka",
                "'kafka' is not host:port",
                "host:port, several separated by commas",
            ),
            ("kafka_bootstrap", "a:1,b:70000", "'b:70000' is not host:port", None),
            ("kafka_topic", "user events", "it has characters that are not allowed, or too many", None),
            ("instance", "x" * 65, "it has characters that are not allowed, or too many", None),
        ],
    )
    def test_a_wrong_value_is_named_with_its_reason(
        self, field: str, value: str, reason: str, allowed: str | None
    ) -> None:
        [problem] = refusal({**REQUIRED, variable_of(field): value}).problems

        assert problem.variable == variable_of(field)
        assert problem.value == value
        assert problem.reason == reason
        assert problem.allowed == (allowed or allowed_values(Settings.model_fields[field]))

    def test_all_that_is_wrong_is_told_at_once(self) -> None:
        error = refusal({**REQUIRED, "KCSYNC_PROFILE": "x", "KCSYNC_BATCH_SIZE": "y", "KCSYNC_LEESE": "30s"})

        assert str(error).splitlines() == [
            "3 settings are wrong:",
            "  KCSYNC_BATCH_SIZE='y': it is not a whole number. Allowed: a whole number from 1 to 5000.",
            "  KCSYNC_LEESE: no setting has this name; the nearest known name is KCSYNC_LEASE.",
            "  KCSYNC_PROFILE='x': there is no such choice. Allowed: development, production or high-volume.",
        ]


class TestContradictions:
    @pytest.mark.parametrize(
        ("environ", "variable", "allowed"),
        [
            ({"KCSYNC_LEASE": "22s"}, "KCSYNC_LEASE", "more than 22s"),  # 2 * 10 s + 2 s
            ({"KCSYNC_KEYCLOAK_TIMEOUT": "14s"}, "KCSYNC_LEASE", "more than 30s"),  # 2 * 14 s + 2 s
            ({"KCSYNC_BACKOFF_CAP": "100ms"}, "KCSYNC_BACKOFF_CAP", "at least 1s"),
            ({"KCSYNC_KEYCLOAK_CALLS_FLOOR": "17"}, "KCSYNC_KEYCLOAK_CALLS_FLOOR", "at most 16"),
            ({"KCSYNC_GRACE_PERIOD": "2m", "KCSYNC_COOLDOWN": "3m"}, "KCSYNC_GRACE_PERIOD", "at least 3m"),
            ({"KCSYNC_KAFKA_SASL_USERNAME": "svc"}, "KCSYNC_KAFKA_SASL_USERNAME", "no value"),
            ({"KCSYNC_KAFKA_CA_FILE": "/ca.pem"}, "KCSYNC_KAFKA_CA_FILE", "no value"),
            ({"KCSYNC_BACKLOG_HIGH": "800000"}, "KCSYNC_BACKLOG_LOW", "less than 800000"),
            (
                {"KCSYNC_OFFLINE_MODE_ALLOWED": "false", "KCSYNC_PAUSE_POLICY": "on_backlog"},
                "KCSYNC_PAUSE_POLICY",
                "immediately",
            ),
            ({**SASL, "KCSYNC_KAFKA_SASL_PASSWORD": ""}, "KCSYNC_KAFKA_SASL_PASSWORD", "a value"),
        ],
    )
    def test_values_that_do_not_go_together_are_refused(
        self, environ: dict[str, str], variable: str, allowed: str
    ) -> None:
        [problem] = refusal({**REQUIRED, **environ}).problems

        assert problem.variable == variable
        assert problem.allowed is not None
        assert problem.allowed.startswith(allowed)

    def test_the_longest_timeout_that_a_lease_allows_is_accepted(self) -> None:
        assert load(lease="23s").lease == timedelta(seconds=23)
        assert load(lease="4s", keycloak_timeout="500ms").keycloak_timeout == timedelta(milliseconds=500)

    def test_settings_built_in_code_are_checked_too(self) -> None:
        values = dict(load())

        with pytest.raises(ValidationError, match="could outlive it"):
            Settings(**{**values, "lease": timedelta(seconds=5)})


class TestUnknownVariables:
    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("KCSYNC_KAFKA_TOPICS", "KCSYNC_KAFKA_TOPIC"),
            ("KCSYNC_BATCHSIZE", "KCSYNC_BATCH_SIZE"),
            ("KCSYNC_DATABSE_DSN", "KCSYNC_DATABASE_DSN"),
            ("KCSYNC_kafka_topic", "KCSYNC_KAFKA_TOPIC"),
            ("KCSYNC_DATABASE_DSN_FIL", "KCSYNC_DATABASE_DSN_FILE"),
            ("KCSYNC_KAFKA_TOPIC_FILE", "KCSYNC_KAFKA_CA_FILE"),
        ],
    )
    def test_are_errors_with_the_nearest_known_name(self, name: str, nearest: str) -> None:
        [problem] = refusal({**REQUIRED, name: "geheim"}).problems

        assert problem.variable == name
        assert problem.reason.endswith(f"the nearest known name is {nearest}")
        assert "geheim" not in str(problem)

    @pytest.mark.parametrize(
        "name",
        [
            "KCSYNC_SERVICE_HOST",
            "KCSYNC_SERVICE_PORT",
            "KCSYNC_SERVICE_PORT_HTTP",
            "KCSYNC_PORT",
            "KCSYNC_PORT_8080_TCP",
            "KCSYNC_PORT_8080_TCP_ADDR",
            "KCSYNC_METRICS_SERVICE_HOST",
            "KCSYNC_METRICS_PORT_8080_TCP_PROTO",
            "KCSYNC_STACK_FOLDER",
            "KCSYNC_TEST_KEEP",
            "KCSYNC_DEMO_USERS",
            "KCSYNCX",
            "PATH",
        ],
    )
    def test_those_of_kubernetes_and_of_our_other_programs_are_let_pass(self, name: str) -> None:
        Settings.load({**REQUIRED, name: "tcp://10.0.0.1:8080"})


class TestSecrets:
    def test_are_shown_by_nothing(self) -> None:
        settings = Settings.load({**REQUIRED, **SASL})

        shown = f"{settings!r} {settings} {settings.masked()}"

        assert "geheim" not in shown
        assert settings.masked()["keycloak_client_secret"] == "****"
        assert settings.masked()["database_dsn"] == "mysql://kcsync:****@127.0.0.1:3306/kcsync"

    def test_are_exactly_these(self) -> None:
        assert {field for field in Settings.model_fields if is_secret(Settings.model_fields[field])} == {
            "database_dsn",
            "kafka_sasl_password",
            "keycloak_client_secret",
        }

    def test_never_stand_in_an_error(self) -> None:
        error = refusal(
            {
                **REQUIRED,
                "KCSYNC_DATABASE_DSN": "mysql://u:geheim1@h",
                "KCSYNC_KEYCLOAK_URL": "https://admin:geheim2@keycloak",
                "KCSYNC_KAFKA_SASL_PASSWORD": "geheim3",
            }
        )

        assert {problem.variable for problem in error.problems} >= {
            "KCSYNC_DATABASE_DSN",
            "KCSYNC_KEYCLOAK_URL",
        }
        assert "geheim" not in str(error)
        assert "geheim" not in repr(error.problems)
        assert error.__context__ is None

    def test_are_not_shown_even_if_they_look_like_nothing(self) -> None:
        [problem] = refusal({**REQUIRED, "KCSYNC_DATABASE_DSN": "geheim"}).problems

        assert problem.value is None
        assert "geheim" not in str(problem)

    def test_can_stand_in_a_file_that_a_variable_names(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(" from file \n", encoding="utf-8")
        environ = {**REQUIRED, "KCSYNC_KEYCLOAK_CLIENT_SECRET_FILE": str(tmp_path / "secret")}
        del environ["KCSYNC_KEYCLOAK_CLIENT_SECRET"]

        # Only the line end is the file's; spaces may be the secret's.
        assert Settings.load(environ).keycloak_client_secret.get_secret_value() == " from file "

    def test_both_a_variable_and_its_file_are_one_too_many(self, tmp_path: Path) -> None:
        [problem] = refusal({**REQUIRED, "KCSYNC_DATABASE_DSN_FILE": str(tmp_path)}).problems

        assert problem.reason == "KCSYNC_DATABASE_DSN is set too"

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        environ = {**REQUIRED, "KCSYNC_KEYCLOAK_CLIENT_SECRET_FILE": str(tmp_path / "missing")}
        del environ["KCSYNC_KEYCLOAK_CLIENT_SECRET"]

        problems = {problem.variable: problem for problem in refusal(environ).problems}

        file_problem = problems["KCSYNC_KEYCLOAK_CLIENT_SECRET_FILE"]
        assert file_problem.value == str(tmp_path / "missing")
        assert file_problem.reason == "the file cannot be read (No such file or directory)"

    def test_can_stand_in_a_folder_of_files_called_like_the_variables(self, tmp_path: Path) -> None:
        for variable in ("KCSYNC_DATABASE_DSN", "KCSYNC_KEYCLOAK_CLIENT_SECRET"):
            (tmp_path / variable).write_text(REQUIRED[variable] + "\n", encoding="utf-8")
        (tmp_path / "KCSYNC_KAFKA_TOPIC").write_text("from-folder", encoding="utf-8")
        environ = {
            **REQUIRED,
            "KCSYNC_SECRETS_DIR": str(tmp_path),
            "KCSYNC_DATABASE_DSN": "",
            "KCSYNC_KEYCLOAK_CLIENT_SECRET": "from-variable",
        }

        settings = Settings.load(environ)

        assert settings.database_dsn.password == "db-geheim"
        assert settings.keycloak_client_secret.get_secret_value() == "from-variable"
        assert settings.kafka_topic == "from-folder"

    def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        [problem] = refusal({**REQUIRED, "KCSYNC_SECRETS_DIR": str(tmp_path / "missing")}).problems

        assert problem.variable == "KCSYNC_SECRETS_DIR"
        assert problem.reason == "there is no such folder"

    def test_a_file_that_is_not_text_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "KCSYNC_KAFKA_TOPIC").write_bytes(b"\xff\xfe")

        [problem] = refusal({**REQUIRED, "KCSYNC_SECRETS_DIR": str(tmp_path)}).problems

        assert problem.reason == "the file is not UTF-8 text"


def test_masked_shows_every_setting_in_order_as_it_would_be_typed() -> None:
    masked = load(keycloak_ca_file="/ca.pem").masked()

    assert list(masked) == list(Settings.model_fields)
    assert masked["keycloak_realms"] == "staff, customers"
    assert masked["cooldown"] == "60s"
    assert masked["kafka_sasl_username"] == "not set"
    assert masked["offline_mode_allowed"] == "true"
    assert masked["keycloak_ca_file"] == "/ca.pem"
