-- As SET LOCAL ROLE and SET LOCAL do: until the transaction ends, and in one question.
SELECT
    set_config('role', 'weir_reader', true),
    set_config('weir.tenants', %(scope)s, true),
    set_config('statement_timeout', %(timeout_ms)s, true)
