-- The same of whole days.
SELECT d.tenant_id, d.day, d.events, d.sum_us, d.min_us, d.max_us, CASE WHEN %(percentiles)s THEN d.sketch END
FROM tenant_daily AS d
JOIN tenants AS t ON t.id = d.tenant_id
WHERE d.day = ANY(%(days)s::date[]) AND (%(plan)s::text IS NULL OR t.plan = %(plan)s)
ORDER BY d.day DESC, d.tenant_id
