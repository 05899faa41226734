"""Triggers in the database of the run that write down every claim, close, result and end as it commits.

The product does not know of them. What they saw stays when an analysis is deleted, and says in which
transaction something was written and who held the step then: no log line has to be believed.
"""

from __future__ import annotations

from chaos.stack import Stack

SCHEMA = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.births (id uuid, metadata jsonb, deadline timestamptz, at timestamptz);
CREATE TABLE chaos.deaths (id uuid, tx xid8, at timestamptz);
CREATE TABLE chaos.ends (id uuid, tx xid8, was text, status text, error text, deadline timestamptz,
    at timestamptz);
CREATE TABLE chaos.steps (n bigserial, step uuid, analysis uuid, stage text, shard int, tx xid8,
    old_status text, new_status text, old_attempt int, new_attempt int, old_owner text, new_owner text,
    reason text, at timestamptz);
CREATE TABLE chaos.intervals (analysis uuid, index int, tx xid8, op text, scored text, at timestamptz);
CREATE TABLE chaos.deliveries (id uuid, analysis uuid, event_id text, type text, at timestamptz);

CREATE FUNCTION chaos.analysis() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE t timestamptz := clock_timestamp();
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO chaos.births VALUES (NEW.id, NEW.metadata, NEW.deadline, t);
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO chaos.deaths VALUES (OLD.id, pg_current_xact_id(), t);
  ELSIF NEW.status <> OLD.status AND (NEW.completed_at IS NOT NULL OR OLD.completed_at IS NOT NULL) THEN
    INSERT INTO chaos.ends VALUES (NEW.id, pg_current_xact_id(), OLD.status, NEW.status, NEW.error->>'code',
      NEW.deadline, t);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE OR DELETE ON analyses
  FOR EACH ROW EXECUTE FUNCTION chaos.analysis();

CREATE FUNCTION chaos.step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.steps (step, analysis, stage, shard, tx, old_status, new_status, old_attempt, new_attempt,
      old_owner, new_owner, reason, at)
    VALUES (NEW.id, NEW.analysis_id, NEW.stage, NEW.shard, pg_current_xact_id(), OLD.status, NEW.status,
      OLD.attempt, NEW.attempt, OLD.lease_owner, NEW.lease_owner, NEW.reason, clock_timestamp());
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER UPDATE ON steps FOR EACH ROW
  WHEN (OLD.status <> NEW.status OR OLD.attempt <> NEW.attempt) EXECUTE FUNCTION chaos.step();

CREATE FUNCTION chaos.interval() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE said text := NULL; r record := COALESCE(NEW, OLD);
BEGIN
  IF TG_OP = 'UPDATE' THEN
    said := CASE
      WHEN ROW(NEW.video_score, NEW.video) IS DISTINCT FROM ROW(OLD.video_score, OLD.video) THEN 'video'
      WHEN ROW(NEW.audio_score, NEW.audio) IS DISTINCT FROM ROW(OLD.audio_score, OLD.audio) THEN 'audio'
      ELSE 'reason' END;
  END IF;
  INSERT INTO chaos.intervals VALUES (r.analysis_id, r.index, pg_current_xact_id(), TG_OP, said,
    clock_timestamp());
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE OR DELETE ON intervals
  FOR EACH ROW EXECUTE FUNCTION chaos.interval();

CREATE FUNCTION chaos.delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.deliveries VALUES (NEW.id, NEW.analysis_id, NEW.event_id, NEW.event_type,
    clock_timestamp());
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT ON webhook_deliveries FOR EACH ROW EXECUTE FUNCTION chaos.delivery();
"""


def install(stack: Stack) -> None:
    """Begin to witness; everything before it is unknown."""
    connection = stack.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(SCHEMA)
    finally:
        connection.close()
