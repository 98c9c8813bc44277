-- The files that can hold a tenant's events of some months, which Postgres has no longer: oldest month first.
SELECT p.place, f.name, f.month, f.part, f.first_tenant, f.last_tenant, f.rows, f.bytes, f.checksum
FROM archive_files AS f JOIN archive_parts AS p USING (month, part)
WHERE p.state = 'complete'
    AND %(tenant_id)s BETWEEN f.first_tenant AND f.last_tenant
    AND f.month >= %(first)s AND f.month <= %(last)s
ORDER BY f.month, f.part, f.first_tenant
