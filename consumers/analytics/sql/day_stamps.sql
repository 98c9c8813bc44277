-- The days that there are rows of the plan of, newest first, each with the stamp that changes whenever the day does. Each
-- day is looked at by itself: as far back as it takes, and no further.
SELECT v.day, v.stamp
FROM tenant_daily_versions AS v
CROSS JOIN LATERAL (
    SELECT
    FROM tenant_daily
    WHERE day = v.day
        AND (%(plan)s::text IS NULL OR tenant_id = ANY(ARRAY(SELECT id FROM tenants WHERE plan = %(plan)s)))
    LIMIT 1
) AS d
WHERE v.day >= %(start)s AND v.day < %(end)s
ORDER BY v.day DESC
LIMIT %(limit)s
