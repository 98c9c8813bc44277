-- What answers about a plan depend on besides the days, and how many tenants are on it, counted up to a bound.
SELECT
    v.stamp,
    (SELECT count(*) FROM (SELECT FROM tenants WHERE %(plan)s::text IS NULL OR plan = %(plan)s LIMIT %(bound)s) AS t)
FROM tenants_version AS v
