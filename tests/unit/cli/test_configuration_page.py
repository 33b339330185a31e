from __future__ import annotations

from pathlib import Path

from consumer.cli.configuration_page import render_page
from consumer.setting_texts import variable_of
from consumer.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), (
        "run: python -m consumer.cli.configuration_page > docs/reference/configuration.md"
    )


def test_the_page_has_every_setting_with_what_it_may_be() -> None:
    page = render_page()

    for field, info in Settings.model_fields.items():
        assert f"### `{variable_of(field)}`\n\n{info.description}" in page
    assert "- Default: `60s`" in page
    assert "- Default: host name, process id and a random part" in page
    assert page.count("- Required") == 7
    assert page.count("- A secret") == 3
    assert "| `high-volume` | 30s | 200 | 2h |" in page
