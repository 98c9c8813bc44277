SELECT FROM tenants WHERE id = %(tenant_id)s
