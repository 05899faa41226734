"""The JSON of what is loaded where: `GET /v1/detectors`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from core.domain import Modality


class Detector(BaseModel):
    """A detector as one worker has it. A newer worker may say more."""

    model_config = ConfigDict(extra="allow")

    modality: Modality
    loaded: bool = Field(description="Whether this process scores with it.")
    id: str | None = Field(default=None, description="Hub id or name of the checkpoint.")
    state: str | None = Field(default=None, description="available, absent or refused.")
    code: str | None = Field(default=None, description="Why it is absent or refused.")
    detail: str | None = Field(default=None, description="The same for people.")
    mend: str | None = Field(default=None, description="The command that mends it, to be run on the server.")
    version: str | None = Field(default=None, description="The pinned revision, or `local`.")
    digest: str | None = Field(default=None, description="Over the checkpoint's files.")
    fake_label: str | None = Field(default=None, description="The label of the class taken as fake.")
    test_only: bool = Field(default=False, description="Made for a test: its scores mean nothing.")


class Worker(BaseModel):
    """One live worker process."""

    boot_id: str = Field(description="Random for each start of the process.")
    queues: list[str]
    version: str
    sandbox: str | None = Field(description="How extraction confines the decoder; null on other queues.")
    detectors: list[Detector]
    started_at: datetime
    seen_at: datetime


class Detectors(BaseModel):
    """What is loaded, by live worker."""

    workers: list[Worker]
