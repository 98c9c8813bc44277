-- What the events of each tenant on a plan come to per day, newest day first. A page ends where (day, tenant_id) is, and
-- the next one begins there: `end` is that day's next then.
SELECT d.tenant_id, d.day, d.events, d.sum_us, d.min_us, d.max_us, CASE WHEN %(percentiles)s THEN d.sketch END
FROM tenant_daily AS d
JOIN tenants AS t ON t.id = d.tenant_id
WHERE d.day >= %(start)s AND d.day < %(end)s
    AND (%(plan)s::text IS NULL OR t.plan = %(plan)s)
    AND (%(after_tenant)s::bigint IS NULL OR d.day < %(end)s - 1 OR d.tenant_id > %(after_tenant)s)
ORDER BY d.day DESC, d.tenant_id
LIMIT %(limit)s
