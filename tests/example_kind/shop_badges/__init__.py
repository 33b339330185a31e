"""A kind that does not come with kcsync: a customer's badge."""

from __future__ import annotations
