-- A tenant's events in order of time. Those of one moment are told apart by their id: a page ends after one of them.
SELECT tenant_id, created_at, id, processing_time, event_type, payload::text
FROM events
WHERE tenant_id = %(tenant_id)s
    AND created_at >= %(start)s AND created_at < %(end)s
    AND (%(after_id)s::bigint IS NULL OR created_at > %(start)s OR id > %(after_id)s)
    AND (%(event_type)s::text IS NULL OR event_type = %(event_type)s)
ORDER BY created_at, id
LIMIT %(limit)s
