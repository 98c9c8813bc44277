-- What the events of each tenant on a plan come to per day, newest day first. A page ends where (day, tenant_id) is, and
-- the next one begins there: `end` is that day's next then. Day by day, as far back as the page reaches and no further.
SELECT d.tenant_id, v.day, d.events, d.sum_us, d.min_us, d.max_us, d.sketch
FROM tenant_daily_versions AS v
CROSS JOIN LATERAL (
    SELECT
        tenant_id, events, sum_us, min_us, max_us, CASE WHEN %(percentiles)s THEN sketch END AS sketch
    FROM tenant_daily
    WHERE day = v.day
        AND (%(plan)s::text IS NULL OR tenant_id = ANY(ARRAY(SELECT id FROM tenants WHERE plan = %(plan)s)))
        AND (%(after_tenant)s::bigint IS NULL OR v.day < %(end)s - 1 OR tenant_id > %(after_tenant)s)
    ORDER BY tenant_id
    LIMIT %(limit)s
) AS d
WHERE v.day >= %(start)s AND v.day < %(end)s
ORDER BY v.day DESC, d.tenant_id
LIMIT %(limit)s
