from __future__ import annotations

from consumer.telemetry.trouble import Trouble


class TestATrouble:
    def test_is_said_when_it_begins_and_seldom_while_it_lasts(self) -> None:
        now = [100.0]
        trouble = Trouble(every=60.0, clock=lambda: now[0])
        said = []

        for _ in range(130):
            if trouble.is_news():
                said.append(now[0])
            now[0] += 1

        assert said == [100.0, 160.0, 220.0]

    def test_is_news_again_after_it_was_over(self) -> None:
        trouble = Trouble(clock=lambda: 0.0)
        assert trouble.is_news()

        trouble.over()

        assert trouble.is_news()
        assert not trouble.is_news()
