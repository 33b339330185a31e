"""The demo: the whole way on real servers, told as a story and proved from Keycloak."""

from __future__ import annotations
