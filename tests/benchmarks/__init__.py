"""Benchmarks: ratios within one run against the raw client doing the same work."""

from __future__ import annotations
