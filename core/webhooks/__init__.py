"""Telling others how an analysis went: who wants to know, what is owed to whom, how each telling went.

Events are owed in the transaction that makes them true; one row of `webhook_deliveries` is outbox, lease
and retry clock of one event for one address. Whoever changes several of these rows takes the analysis
first, then the endpoint, then its deliveries.
"""

from __future__ import annotations
