"""The JSON of webhooks, and from rows to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.schemas import MAX_CURSOR, Strict
from core import models
from core.webhooks.domain import ENDS, DeliveryStatus, Disabled, EventType

ENDPOINTS: Final = "/v1/webhook-endpoints"
MAX_URL: Final = 2048
MAX_DESCRIPTION: Final = 200


def _each_once(events: Sequence[EventType]) -> Sequence[EventType]:
    if len(set(events)) != len(events):
        raise ValueError("an event is named twice")
    return events


Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_URL,
        description="Where events are posted: http or https, a public address, port 80 or 443 unless the "
        "server allows others.",
    ),
]
Events = Annotated[
    list[EventType],
    Field(
        min_length=1,
        description="What to tell. `analysis.progress` is told only to those who ask.",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_each_once),
]
#: Without NUL, which PostgreSQL does not take.
Description = Annotated[
    str, Field(max_length=MAX_DESCRIPTION, pattern=r"^[^\x00]*$", description="For people; without NUL.")
]


class Asked(BaseModel):
    """Base of request bodies: a member that is not known is an error. Enumerations come as strings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewEndpoint(Asked):
    """Who is to be told, and of what."""

    url: Url | None = Field(
        default=None, description="Null: the endpoint of analyses that bring their own `webhook_url`."
    )
    events: Events = list(ENDS)
    description: Description | None = None


class EndpointChange(Asked):
    """What is to be different; what is not named stays."""

    url: Url = Field(default="", description="Used also for what is still owed.")
    events: Events = list(ENDS)
    description: Description | None = None
    enabled: bool = Field(
        default=True, strict=True, description="False drops what is owed; true begins with a clean record."
    )


class EndpointLinks(BaseModel):
    """Where to go from here."""

    self: str
    deliveries: str


class Endpoint(BaseModel):
    """An address that is told of events."""

    id: UUID
    url: str | None = Field(description="Null: analyses bring their own `webhook_url`.")
    events: list[EventType]
    description: str | None
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: Disabled | None = Field(
        description="`gone`: it answered 410. `failing`: nothing but failures for days."
    )
    failing_since: datetime | None = Field(description="First failure since the last success.")
    former_secret_until: datetime | None = Field(description="Until then the secret before signs too.")
    created_at: datetime
    links: EndpointLinks


class EndpointWithSecret(Endpoint):
    """An endpoint and what signs its events. The secret is shown this once."""

    secret: str | None = Field(
        description="`whsec_…`, for any library of Standard Webhooks. Null in the replay of an earlier "
        "answer: the server cannot show it again."
    )


class Endpoints(BaseModel):
    """All of them, the oldest first; there are never many."""

    items: list[Endpoint]


class Attempt(BaseModel):
    """One try."""

    number: int = Field(description="From 1, over all redeliveries.")
    at: datetime
    milliseconds: int = Field(description="Until the head of the answer had come, or the try had failed.")
    status: int | None = Field(description="HTTP status of the answer; null when there was none.")
    error: str | None = Field(
        description="Why there was no answer: `unsafe_url`, `unresolvable_url`, `connect_failed`, "
        "`timed_out`, `tls_failed`, `connection_lost`, `bad_answer`, `worker_lost`, `secret_unreadable`."
    )
    answer: str | None = Field(description="The first 2 kB of it.")


class DeliveryLinks(BaseModel):
    """Where to go from here."""

    self: str
    analysis: str | None = Field(description="Null for a test event.")


class Delivery(BaseModel):
    """The telling of one event to one address."""

    id: UUID
    event_id: str = Field(description="The `webhook-id` header: the same on each try and redelivery.")
    event_type: str
    analysis_id: UUID | None = Field(description="Null for a test event.")
    url: str
    status: DeliveryStatus
    body: str = Field(description="The exact text that is signed and sent.")
    attempts: list[Attempt]
    next_attempt_at: datetime | None = Field(description="Null when there will be none.")
    created_at: datetime
    closed_at: datetime | None
    links: DeliveryLinks


class DeliveryQuery(Strict):
    """Which deliveries, and which page of them."""

    status: DeliveryStatus | None = None
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR, description="`next_cursor` of a page.")
    limit: int = Field(default=50, ge=1, le=200)


def endpoint(row: models.WebhookEndpoint) -> Endpoint:
    """One endpoint; never a secret."""
    return Endpoint.model_validate(_members(row))


def endpoint_with(row: models.WebhookEndpoint, secret: str | None) -> EndpointWithSecret:
    """One endpoint with its fresh secret, or with null where it was shown before."""
    return EndpointWithSecret.model_validate(_members(row) | {"secret": secret})


def location(row: models.WebhookEndpoint) -> str:
    """Path of the endpoint."""
    return f"{ENDPOINTS}/{row.id}"


def _members(row: models.WebhookEndpoint) -> dict[str, Any]:
    names = (*Endpoint.model_fields.keys() - {"enabled", "links"},)
    here = location(row)
    return {name: getattr(row, name) for name in names} | {
        "enabled": row.disabled_at is None,
        "links": {"self": here, "deliveries": f"{here}/deliveries"},
    }


def delivery(row: models.WebhookDelivery) -> Delivery:
    """One delivery; its attempts must be loaded."""
    names = (*Delivery.model_fields.keys() - {"attempts", "next_attempt_at", "links"},)
    waits = row.status == DeliveryStatus.OWED
    return Delivery.model_validate(
        {name: getattr(row, name) for name in names}
        | {
            "attempts": [_attempt(item) for item in row.attempts],
            "next_attempt_at": row.next_attempt_at if waits else None,
            "links": {
                "self": f"{ENDPOINTS}/{row.endpoint_id}/deliveries/{row.id}",
                "analysis": row.analysis_id and f"/v1/analyses/{row.analysis_id}",
            },
        }
    )


def _attempt(row: models.WebhookAttempt) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Attempt.model_fields}
