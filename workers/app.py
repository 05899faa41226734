"""The Celery application. Redis is a doorbell: leases and redelivery live in Postgres.

Early acknowledgement without prefetch is the mode that survives a restart of Redis while a worker is
partly busy, and that never redelivers a long task because a visibility timeout ran out.
"""

from __future__ import annotations

from datetime import timedelta

from celery import Celery
from celery.signals import setup_logging
from kombu.entity import Queue as KombuQueue

from core import logging
from core.config import Settings, settings
from core.queue import QUEUE_OF_TASK, names_of

#: Chord keys must outlive the longest analysis, or its fusion is silently never rung for.
CHORD_KEEP = timedelta(days=1)
#: Of every key in Redis, so that the database may be shared.
PREFIX = "deepdefend:"


def configuration(config: Settings) -> dict[str, object]:
    """Every Celery setting that is not its default, each with its reason."""
    broker = config.broker_url.get_secret_value()
    timeouts = {"socket_timeout": 5, "socket_connect_timeout": 3, "socket_keepalive": True}
    return {
        "broker_url": broker,
        "result_backend": f"workers.backend.ChordCounter+{broker}",
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],  # a message can carry no code
        "task_queues": [KombuQueue(name) for name in names_of()],  # type: ignore[no-untyped-call]
        "task_routes": {task.value: {"queue": queue.value} for task, queue in QUEUE_OF_TASK.items()},
        "task_create_missing_queues": False,  # a typo fails instead of filling a queue nobody reads
        "task_acks_late": False,  # liveness is the lease in Postgres
        "worker_disable_prefetch": True,  # no step waits behind a long one while a worker is idle
        "worker_prefetch_multiplier": 1,
        "task_time_limit": config.steps.hard_limit.total_seconds(),
        "task_track_started": False,
        "task_send_sent_event": True,  # Flower shows what was published
        "worker_send_task_events": True,
        "result_expires": CHORD_KEEP,
        "result_chord_expires": CHORD_KEEP,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # Redis may be away for hours; the lease does not mind
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_transport_options": {
            **timeouts,
            "health_check_interval": 25,
            "global_keyprefix": PREFIX,
            "queue_order_strategy": "workers.lanes:LaneOrder",
        },
        "result_backend_transport_options": {"global_keyprefix": PREFIX},
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 3,
        "redis_retry_on_timeout": False,
        "worker_pool_start_method": "spawn",  # CUDA and threads do not survive a fork
        "worker_proc_alive_timeout": 120,  # a child imports torch and loads weights first
        "worker_hijack_root_logger": False,
        "include": [
            f"workers.tasks.{name}" for name in ("extract", "video", "audio", "stability", "fuse", "deliver")
        ],
        "imports": ["workers.process"],
    }


app = Celery("deepdefend", task_cls="workers.messages:OurTask")
app.config_from_object(configuration(settings()))


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _log(**_: object) -> None:
    logging.configure(settings(), "worker")
