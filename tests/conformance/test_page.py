from __future__ import annotations

from tests.conformance.page import BELIEFS, DIFFERS, HOLDS, NOT_RUN, PAGE, committed, render, told


def test_the_committed_page_and_the_suite_are_one() -> None:
    seen = committed()

    assert PAGE.read_text(encoding="utf-8") == render(seen), "run: python -m tests.conformance.page [--keep]"
    for version, cells in seen.items():
        run = {name: cell for name, cell in cells.items() if cell != NOT_RUN}
        assert run == {name: DIFFERS.get(name, {}).get(version, HOLDS) for name in run}
        # What was written since may wait for the next time that all versions are run.
        assert len(cells) - len(run) <= 5


def test_no_two_cases_are_told_in_the_same_words() -> None:
    sentences = [told(case) for cases in BELIEFS.values() for case in cases]

    assert len(sentences) == len(set(sentences))
    assert not [sentence for sentence in sentences if "|" in sentence]
