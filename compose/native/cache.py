"""The folder of downloaded and unpacked things, shared by all instances and kept by `make clean`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from compose.native.state import exclusive

if TYPE_CHECKING:
    from collections.abc import Callable


def default_folder() -> Path:
    """Give `$KCSYNC_STACK_CACHE`, else `$XDG_CACHE_HOME/kcsync`, else `~/.cache/kcsync`."""
    if chosen := os.environ.get("KCSYNC_STACK_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kcsync"


class Cache:
    """Finished folders by key. What is there is whole: each is made aside and renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def provide(self, key: str, make: Callable[[Path], None]) -> Path:
        """Give the folder of a key; make it if it is not there.

        Threads and processes that want the same key wait for the first of them.

        Args:
            key: names the content wholly: name, version, options.
            make: fills an empty folder; what it raises is passed on, and the folder is removed.
        """
        finished = self.folder / key
        if finished.is_dir():
            return finished
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / f".{key}.lock"):
            if finished.is_dir():
                return finished
            for left_over in self.folder.glob(f".{key}.half-*"):
                shutil.rmtree(left_over)
            half = Path(tempfile.mkdtemp(prefix=f".{key}.half-", dir=self.folder))
            try:
                make(half)
                half.chmod(0o755)
                half.rename(finished)
            except BaseException:
                shutil.rmtree(half, ignore_errors=True)
                raise
        return finished


def link_tree(source: Path, target: Path) -> None:
    """Copy a folder by hard links where the file system allows it, else byte by byte; whole or not at all."""
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{target.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(source, half, copy_function=_link_or_copy)
    half.rename(target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or a cache that belongs to somebody else.
        shutil.copy2(source, target)
