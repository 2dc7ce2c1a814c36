-- What metering asks of the ledger at every opening of a partition, and every ten seconds after.
-- Non-blocking: parts that are there get theirs in the background, and are read in full until then.
--
-- UUIDs compare by their second half, which is chance in a UUIDv7: the indexes batch_id_range and
-- event_id_range of 0001 tell single batches apart until their parts are merged, and nothing after
-- that. Their times do, whatever they are merged with.
--
-- One row for each batch and incarnation, by partition and time: where booking stands, whether a
-- batch is there, how far an incarnation is booked.
ALTER TABLE entries ADD PROJECTION IF NOT EXISTS by_batch
(
    SELECT partition, UUIDv7ToDateTime(batch_id, 'UTC'), batch_id, incarnation,
           max(journal_offset), argMax(segment_no, journal_offset), max(insert_by),
           max(UUIDv7ToDateTime(batch_id, 'UTC')), count()
    GROUP BY partition, UUIDv7ToDateTime(batch_id, 'UTC'), batch_id, incarnation
);

ALTER TABLE entries
    ADD INDEX IF NOT EXISTS batch_time UUIDv7ToDateTime(batch_id, 'UTC') TYPE minmax GRANULARITY 1;

ALTER TABLE entries
    ADD INDEX IF NOT EXISTS event_time UUIDv7ToDateTime(event_id, 'UTC') TYPE minmax GRANULARITY 1;

ALTER TABLE entries MATERIALIZE PROJECTION by_batch;

ALTER TABLE entries MATERIALIZE INDEX batch_time;

ALTER TABLE entries MATERIALIZE INDEX event_time;
