"""Settings that are lists: what a dead letter does by kind, and who is never touched."""

from __future__ import annotations

import pytest

from consumer.environment import SettingsError
from consumer.setting_values import holding_kinds, probes_of
from consumer.settings import Settings

REQUIRED = {
    "KCSYNC_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "KCSYNC_DATABASE_DSN": "mysql://kcsync:geheim@127.0.0.1:3306/kcsync",
    "KCSYNC_KEYCLOAK_URL": "http://127.0.0.1:8080/",
    "KCSYNC_KEYCLOAK_REALMS": "staff",
    "KCSYNC_KEYCLOAK_CLIENT_ID": "kcsync",
    "KCSYNC_KEYCLOAK_CLIENT_SECRET": "geheim",
    "KCSYNC_KEYS_DIR": "/etc/kcsync/keys",
}


def load(**more: str) -> Settings:
    return Settings.load({**REQUIRED, **{f"KCSYNC_{name.upper()}": value for name, value in more.items()}})


class TestLanePolicy:
    def test_holds_after_a_create_by_default(self) -> None:
        assert holding_kinds(load().lane_policy) == {"user_create"}

    def test_a_kind_that_is_not_named_goes_on(self) -> None:
        settings = load(lane_policy="user_update = hold, user_delete=continue")

        assert holding_kinds(settings.lane_policy) == {"user_update"}
        assert settings.masked()["lane_policy"] == "user_update=hold, user_delete=continue"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("hold", "'hold' is not kind=policy"),
            ("user_create=stop", "'stop' is neither continue nor hold"),
            ("user_create=hold,user_create=hold", "it names user_create twice"),
            ("user_create=hold,", "'' is not kind=policy"),
        ],
    )
    def test_anything_else_is_refused(self, text: str, reason: str) -> None:
        with pytest.raises(SettingsError) as caught:
            load(lane_policy=text)

        assert [problem.reason for problem in caught.value.problems] == [reason]


class TestProtectedUsers:
    def test_are_compared_as_keycloak_stores_them_and_shown_by_their_number(self) -> None:
        settings = load(protected_users="Root, break-Glass")

        assert settings.protected_users == {"root", "break-glass"}
        assert settings.masked()["protected_users"] == "2 listed"

    def test_an_empty_name_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="empty name"):
            load(protected_users="root,,admin")


class TestFederationProbes:
    def test_are_by_realm_and_never_shown(self) -> None:
        settings = load(federation_probes="staff = Probe.One, staff=probe-two")

        assert probes_of(settings.federation_probes) == {"staff": ["probe-two", "probe.one"]}
        assert settings.masked()["federation_probes"] == "2 listed"
        assert probes_of(load().federation_probes) == {}

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("probe", "part 1 of it is not realm=username"),
            ("staff=probe,=probe", "part 2 of it is not realm=username"),
            ("staff=", "part 1 of it is not realm=username"),
            ("shop=probe", "it names realm 'shop', which is not served"),
        ],
    )
    def test_say_what_is_wrong(self, text: str, reason: str) -> None:
        with pytest.raises(SettingsError) as refused:
            load(federation_probes=text)

        assert reason in str(refused.value)
