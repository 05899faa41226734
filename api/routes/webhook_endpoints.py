"""Who is told of events: endpoints, their secrets, their log of deliveries; a test, and once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response, status
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api import idempotency, webhook_schemas
from api.body import read_object
from api.dependencies import scoped
from api.form import strictly
from api.openapi import IDEMPOTENCY_KEY, REPLAYED, json_body, problems
from api.schemas import Page
from api.webhook_schemas import (
    ENDPOINTS,
    Delivery,
    DeliveryQuery,
    Endpoint,
    EndpointChange,
    Endpoints,
    EndpointWithSecret,
    NewEndpoint,
)
from core import audit
from core.config import settings
from core.db import read, transaction
from core.idempotency import Answer, fingerprint, recall, settle
from core.keys import Caller, Scope
from core.webhooks import endpoints, history

router = APIRouter(prefix=ENDPOINTS, tags=["webhooks"])
Keeper = Annotated[Caller, Depends(scoped(Scope.WEBHOOKS))]
LOCATION: Final = {"schema": {"type": "string"}, "description": "Path of the endpoint."}
HEADERS: Final = {idempotency.REPLAYED: REPLAYED}
#: Answers name addresses, and once a secret: no cache may keep them.
PRIVATE: Final = {"Cache-Control": "private, no-store"}
#: In the body of an answer, and null in what is kept of it for replays.
SECRET: Final = "secret"  # noqa: S105 - the name of a member

Act = Callable[[Session], Answer]


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """`requestBody` of our own strict reader; a member that may be left out has no default to show."""
    described = json_body(model, required=True)
    for member in described["requestBody"]["content"]["application/json"]["schema"]["properties"].values():
        member.pop("default", None)
    return described


async def _object(request: Request) -> dict[str, Any]:
    return await read_object(request, idle=settings().limits.upload_idle.total_seconds())


async def _once(request: Request, caller: Caller, operation: str, payload: Any, act: Act) -> Response:
    """Do the work once for each `Idempotency-Key`: the answer is kept in the transaction that does it."""
    asked = fingerprint(operation, {"asked": payload})
    async with idempotency.held(request, caller) as held:
        answer = await run_in_threadpool(_answered, held, asked, act)
    return JSONResponse(answer.body, answer.status, answer.headers | PRIVATE)


def _answered(held: idempotency.Held | None, asked: str, act: Act) -> Answer:
    if held is not None and held.answered:
        with read() as session:
            kept = recall(session, held.claim, payload=asked)
        return kept.model_copy(update={"headers": kept.headers | {idempotency.REPLAYED: "true"}})
    with transaction() as session:
        answer = act(session)
        if held is not None:
            about = answer.body.get("analysis_id")  # erasing the analysis takes the replay along
            kept = _without_secret(answer)
            settle(session, held.claim, payload=asked, answer=kept, analysis_id=about and UUID(about))
    return answer


def _without_secret(answer: Answer) -> Answer:
    """What may lie in the database in the clear for a day."""
    hidden = {SECRET: None} if SECRET in answer.body else {}
    return answer.model_copy(update={"body": answer.body | hidden})


def _log(session: Session, request: Request, caller: Caller, action: audit.Action, row_id: UUID) -> None:
    """Tell the audit log, in the same transaction; not the address, which may carry a secret."""
    audit.record(
        session,
        actor=caller.key_id,
        owner=caller.owner,
        action=action,
        subject=row_id,
        request_id=request.state.request_id,
    )


def _made(code: int, made: BaseModel, **headers: str) -> Answer:
    return Answer(status=code, headers=headers, body=made.model_dump(mode="json"))


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=EndpointWithSecret,
    responses={
        201: {"headers": {"Location": LOCATION, **HEADERS}},
        **problems(400, 401, 403, 408, 409, 413, 415, 422),
    },
    openapi_extra={"parameters": [IDEMPOTENCY_KEY], **_body(NewEndpoint)},
)
async def create_webhook_endpoint(request: Request, caller: Keeper) -> Response:
    """Be told of events. The answer has the secret that signs them, and nothing shows it again.

    Without a URL it is the endpoint of analyses that bring their own `webhook_url`; there is one such.
    """
    asked = strictly(NewEndpoint, await _object(request))

    def act(session: Session) -> Answer:
        row, secret = endpoints.create(
            session, caller.owner, url=asked.url, events=asked.events, description=asked.description
        )
        _log(session, request, caller, audit.Action.ENDPOINT_CREATED, row.id)
        shown = webhook_schemas.endpoint_with(row, secret)
        return _made(status.HTTP_201_CREATED, shown, Location=webhook_schemas.location(row))

    payload = asked.model_dump(mode="json")
    return await _once(request, caller, "create_webhook_endpoint", payload, act)


@router.get("", responses=problems(401, 403, 422))
def list_webhook_endpoints(caller: Keeper) -> Endpoints:
    """Your endpoints, the oldest first."""
    with read() as session:
        rows = endpoints.list_endpoints(session, caller.owner)
        return Endpoints(items=[webhook_schemas.endpoint(row) for row in rows])


@router.get("/{endpoint_id}", responses=problems(401, 403, 404, 422))
def get_webhook_endpoint(endpoint_id: UUID, caller: Keeper) -> Endpoint:
    """One endpoint."""
    with read() as session:
        return webhook_schemas.endpoint(endpoints.find(session, caller.owner, endpoint_id))


@router.patch(
    "/{endpoint_id}",
    response_model=Endpoint,
    responses=problems(400, 401, 403, 404, 408, 413, 415, 422),
    openapi_extra=_body(EndpointChange),
)
async def change_webhook_endpoint(endpoint_id: UUID, request: Request, caller: Keeper) -> Endpoint:
    """Change what is named, leave the rest. `enabled: true` after it was disabled begins anew."""
    asked = strictly(EndpointChange, await _object(request))

    def act() -> Endpoint:
        with transaction() as session:
            changes = asked.model_dump(exclude_unset=True)
            row = endpoints.change(session, caller.owner, endpoint_id, **changes)
            _log(session, request, caller, audit.Action.ENDPOINT_CHANGED, row.id)
            return webhook_schemas.endpoint(row)

    return await run_in_threadpool(act)


@router.delete(
    "/{endpoint_id}", status_code=status.HTTP_204_NO_CONTENT, responses=problems(401, 403, 404, 422)
)
def delete_webhook_endpoint(endpoint_id: UUID, request: Request, caller: Keeper) -> None:
    """Forget it, with its secret and its log. What is owed to it is dropped."""
    with transaction() as session:
        endpoints.remove(session, caller.owner, endpoint_id)
        _log(session, request, caller, audit.Action.ENDPOINT_DELETED, endpoint_id)


@router.post(
    "/{endpoint_id}/rotate-secret",
    response_model=EndpointWithSecret,
    responses={200: {"headers": HEADERS}, **problems(400, 401, 403, 404, 409, 422)},
    openapi_extra={"parameters": [IDEMPOTENCY_KEY]},
)
async def rotate_webhook_secret(endpoint_id: UUID, request: Request, caller: Keeper) -> Response:
    """A new secret. For 24 hours the former one signs beside it; until then there is no other: 409."""

    def act(session: Session) -> Answer:
        row, secret = endpoints.rotate(session, caller.owner, endpoint_id)
        _log(session, request, caller, audit.Action.SECRET_ROTATED, row.id)
        return _made(status.HTTP_200_OK, webhook_schemas.endpoint_with(row, secret))

    return await _once(request, caller, "rotate_webhook_secret", str(endpoint_id), act)


@router.post(
    "/{endpoint_id}/test",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Delivery,
    responses={202: {"headers": HEADERS}, **problems(400, 401, 403, 404, 409, 422)},
    openapi_extra={"parameters": [IDEMPOTENCY_KEY]},
)
async def test_webhook_endpoint(endpoint_id: UUID, request: Request, caller: Keeper) -> Response:
    """Send it an event `webhook.test`, once. How it went is at `links.self` within seconds."""

    def act(session: Session) -> Answer:
        row = history.send_test(session, caller.owner, endpoint_id)
        return _made(status.HTTP_202_ACCEPTED, webhook_schemas.delivery(row))

    return await _once(request, caller, "test_webhook_endpoint", str(endpoint_id), act)


@router.get("/{endpoint_id}/deliveries", responses=problems(400, 401, 403, 404, 422))
def list_webhook_deliveries(
    endpoint_id: UUID, caller: Keeper, query: Annotated[DeliveryQuery, Query()]
) -> Page[Delivery]:
    """What it was told, or is to be, with every try: the newest first. Kept for 30 days."""
    with read() as session:
        row = endpoints.find(session, caller.owner, endpoint_id)
        page = history.page(session, row, status=query.status, cursor=query.cursor, limit=query.limit)
        items = [webhook_schemas.delivery(item) for item in page.items]
        return Page(items=items, next_cursor=page.next_cursor)


@router.get("/{endpoint_id}/deliveries/{delivery_id}", responses=problems(401, 403, 404, 422))
def get_webhook_delivery(endpoint_id: UUID, delivery_id: UUID, caller: Keeper) -> Delivery:
    """One delivery with every try."""
    with read() as session:
        row = endpoints.find(session, caller.owner, endpoint_id)
        return webhook_schemas.delivery(history.find(session, row, delivery_id))


@router.post(
    "/{endpoint_id}/deliveries/{delivery_id}/redeliver",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Delivery,
    responses={202: {"headers": HEADERS}, **problems(400, 401, 403, 404, 409, 422)},
    openapi_extra={"parameters": [IDEMPOTENCY_KEY]},
)
async def redeliver_webhook(
    endpoint_id: UUID, delivery_id: UUID, request: Request, caller: Keeper
) -> Response:
    """Send the event again under its old id, whatever became of it; with all tries, if it takes them."""

    def act(session: Session) -> Answer:
        row = history.redeliver(session, caller.owner, endpoint_id, delivery_id)
        return _made(status.HTTP_202_ACCEPTED, webhook_schemas.delivery(row))

    return await _once(request, caller, "redeliver_webhook", str(delivery_id), act)
