"""The outbox by time: partitions that are dropped once the relay's acknowledged mark has passed them."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Today and tomorrow (UTC); the relay makes those that follow. The lock makes writers wait, not fail. A server that has
# rows already keeps them in the default partition until the relay removes what is published and old: they would have
# to be moved, and a moved row is an inserted one to whoever reads the log.
FIRST_PARTITIONS = """
DO $$
DECLARE
    day timestamptz := date_trunc('day', now(), 'UTC');
BEGIN
    LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM outbox_default WHERE created_at >= day) THEN
        day := day + interval '1 day';
        IF EXISTS (SELECT FROM outbox_default WHERE created_at >= day) THEN
            RETURN;
        END IF;
    END IF;
    WHILE day < now() + interval '1 day' LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF outbox FOR VALUES FROM (%L) TO (%L)',
            'outbox_p' || to_char(day AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI'), day, day + interval '1 day'
        );
        day := day + interval '1 day';
    END LOOP;
END $$;
"""


# Only polling looks for unpublished rows; it makes the index when it is chosen. With change data capture every row
# would be in it for ever, at the cost of every order.
NO_POLLING = "DROP INDEX outbox_unpublished;"


def upgrade() -> None:
    op.execute(FIRST_PARTITIONS)
    op.execute(NO_POLLING)
