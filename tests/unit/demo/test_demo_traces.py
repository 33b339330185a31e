from __future__ import annotations

from typing import Any

from compose.demo.traces import Trace, best_of, link, parse_trace, picture


def span(span_id: str, parent: str | None, kind: str, begin: int, **more: Any) -> dict[str, Any]:
    step = {
        "traceId": "abc",
        "id": span_id,
        "kind": kind,
        "name": f"step {span_id}",
        "timestamp": begin,
        "duration": 2_000,
        "localEndpoint": {"serviceName": "kcsync"},
        **more,
    }
    return step if parent is None else {**step, "parentId": parent}


SEND = span("1", None, "PRODUCER", 1_000_000)
FAILED = [
    span("2", "1", "CONSUMER", 1_500_000, tags={"error": "lost"}),
    span("3", "2", "CLIENT", 1_500_100, tags={"error": "lost"}),
]
APPLIED = [span("4", "1", "CONSUMER", 9_000_000), span("5", "4", "CLIENT", 9_000_100)]


def trace(*spans: dict[str, Any]) -> Trace:
    return parse_trace(spans)


class TestATrace:
    def test_reaches_keycloak_if_its_three_kinds_hang_below_each_other(self) -> None:
        assert trace(SEND, *APPLIED).reaches_keycloak
        assert trace(*APPLIED, SEND).reaches_keycloak

    def test_does_not_without_one_of_them(self) -> None:
        for missing in range(3):
            steps = [SEND, *APPLIED]
            del steps[missing]

            assert not trace(*steps).reaches_keycloak

    def test_does_not_if_the_request_belongs_to_something_else(self) -> None:
        elsewhere = span("5", "1", "CLIENT", 9_000_100)

        assert not trace(SEND, APPLIED[0], elsewhere).reaches_keycloak

    def test_does_not_if_every_request_failed(self) -> None:
        assert not trace(SEND, *FAILED).reaches_keycloak

    def test_counts_its_attempts(self) -> None:
        assert trace(SEND, *FAILED, *APPLIED).attempts == 2

    def test_is_drawn_with_times_and_failures(self) -> None:
        assert picture(trace(SEND, *FAILED, *APPLIED)) == [
            "  0.000 s   0.002 s  step 1 (kcsync)",
            "  0.500 s   0.002 s    step 2 (kcsync)  failed",
            "  0.500 s   0.002 s      step 3 (kcsync)  failed",
            "  8.000 s   0.002 s    step 4 (kcsync)",
            "  8.000 s   0.002 s      step 5 (kcsync)",
        ]

    def test_has_a_page_in_zipkin(self) -> None:
        assert link("http://127.0.0.1:9411", trace(SEND)) == "http://127.0.0.1:9411/zipkin/traces/abc"


class TestTheChoice:
    def test_prefers_the_delivery_that_was_cut_off(self) -> None:
        plain, cut_off = trace(SEND, *APPLIED), trace(SEND, *FAILED, *APPLIED)

        assert best_of([plain, cut_off, plain]) is cut_off

    def test_is_none_where_no_trace_reaches_keycloak(self) -> None:
        assert best_of([trace(SEND), trace(SEND, *FAILED)]) is None
        assert best_of([]) is None
