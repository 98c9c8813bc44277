-- The same of whole days.
SELECT tenant_id, day, events, sum_us, min_us, max_us, CASE WHEN %(percentiles)s THEN sketch END
FROM tenant_daily
WHERE day = ANY(%(days)s::date[])
    AND (%(plan)s::text IS NULL OR tenant_id = ANY(ARRAY(SELECT id FROM tenants WHERE plan = %(plan)s)))
ORDER BY day DESC, tenant_id
