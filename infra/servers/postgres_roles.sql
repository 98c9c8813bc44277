-- Run as PostgreSQL's own superuser, in single-user mode, before the server first listens: the roles of the embedded
-- Postgres. Each statement can be run again: a run that was killed is repeated from the start.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'weir') THEN
        CREATE ROLE weir;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'weir_reader') THEN
        CREATE ROLE weir_reader NOLOGIN; -- what tenants' rows are asked for as
    END IF;
END $$;

-- What services log in as.
ALTER ROLE weir LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '{verifier}';

DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT roleid::regrole AS role, grantor::regrole FROM pg_auth_members WHERE member = 'weir'::regrole
    LOOP
        EXECUTE format('REVOKE %s FROM weir GRANTED BY %s', granted.role, granted.grantor);
    END LOOP;
    GRANT weir_reader TO weir WITH INHERIT FALSE, SET TRUE;
END $$;

-- Nobody logs in as the superuser: without a password SCRAM has nothing to compare with.
ALTER ROLE postgres PASSWORD NULL;

SELECT datname FROM pg_database WHERE datname = 'weir';
