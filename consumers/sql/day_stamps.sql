-- The days that there is something of, newest first, each with the stamp that changes whenever the day does.
SELECT day, stamp
FROM tenant_daily_versions
WHERE day >= %(start)s AND day < %(end)s
ORDER BY day DESC
LIMIT %(limit)s
