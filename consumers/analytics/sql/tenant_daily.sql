-- What the events of one tenant come to per day, newest day first.
SELECT d.tenant_id, d.day, d.events, d.sum_us, d.min_us, d.max_us, CASE WHEN %(percentiles)s THEN d.sketch END
FROM tenant_daily AS d
WHERE d.tenant_id = %(tenant_id)s AND d.day >= %(start)s AND d.day < %(end)s
ORDER BY d.day DESC
LIMIT %(limit)s
