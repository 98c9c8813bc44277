-- Run as PostgreSQL's own superuser, in single-user mode, in the database weir: the database belongs to the role weir,
-- and so does all that an earlier weir, or its user, made there as the superuser. REASSIGN OWNED refuses to move the
-- bootstrap superuser's objects. An extension's members stay as the extension made them.

ALTER DATABASE weir OWNER TO weir;

DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        WITH object (class, id) AS (
            SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
            WHERE nspowner = 'postgres'::regrole AND nspname NOT LIKE 'pg\_%'
            UNION ALL
            SELECT 'pg_class'::regclass, oid FROM pg_class
            WHERE relowner = 'postgres'::regrole AND relpersistence <> 't' AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
            UNION ALL
            SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE proowner = 'postgres'::regrole
            UNION ALL
            SELECT 'pg_type'::regclass, oid FROM pg_type
            WHERE typowner = 'postgres'::regrole AND typrelid = 0 AND typtype IN ('d', 'e', 'r')
            UNION ALL
            SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxowner = 'postgres'::regrole
        )
        SELECT
            CASE class
                WHEN 'pg_proc'::regclass THEN 'ROUTINE' -- functions, procedures and aggregates alike
                WHEN 'pg_type'::regclass THEN 'TYPE'
                WHEN 'pg_statistic_ext'::regclass THEN 'STATISTICS'
                ELSE replace(known.type, 'composite type', 'type')
            END AS kind,
            known.identity
        FROM object CROSS JOIN LATERAL pg_identify_object(class, id, 0) AS known
        WHERE id >= 16384 -- those below are PostgreSQL's own
        AND NOT EXISTS ( -- sequences of identity columns go with their table
            SELECT FROM pg_depend
            WHERE classid = class AND objid = id
            AND (deptype = 'e' OR class = 'pg_class'::regclass AND deptype IN ('a', 'i') AND refobjsubid > 0)
        )
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO weir', made.kind, made.identity);
    END LOOP;
END $$;
