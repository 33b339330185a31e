"""Another commit of this project, with an environment of its own, to measure beside this one."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "another_build"]

ROOT = Path(__file__).parents[2]


@contextmanager
def another_build(commit: str) -> Iterator[Path]:
    """A folder with the project as it was at a commit, ready to run, removed afterwards.

    Raises:
        subprocess.CalledProcessError: git does not know the commit, or its environment cannot be set up.
    """
    with tempfile.TemporaryDirectory(prefix="kcsync-bench-") as folder:
        tree = Path(folder) / "tree"
        _run("git", "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            _run("make", "--silent", "-C", str(tree), ".venv/.ready")
            yield tree
        finally:
            _run("git", "worktree", "remove", "--force", str(tree))


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)
