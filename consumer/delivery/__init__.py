"""Delivery: everything that talks to Keycloak.

It applies one change of one user and says what came of it; when and how often that is tried is the drain's business.
"""

from __future__ import annotations
