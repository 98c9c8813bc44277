"""The SQL of a sink, made of its tables' declarations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from weir.consumers.sinks.table import Conflict, Reference, Rollup, Table


def names(columns: Mapping[str, str] | Sequence[str]) -> sql.Composed:
    """The columns' names with commas between them."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def staging(name: str) -> sql.Identifier:
    """The temporary table in which rows of table `name` wait to be merged."""
    return sql.Identifier("pg_temp", f"staging_{name}")


def make(name: str, columns: Mapping[str, str], key: Sequence[str]) -> sql.Composed:
    """Makes a table of these columns with this primary key; without one where it has no columns."""
    parts = [sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in columns.items()]
    if key:
        parts.append(sql.SQL("PRIMARY KEY ({})").format(names(key)))
    return sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(sql.Identifier(name), sql.SQL(", ").join(parts))


def make_staging(name: str, columns: Mapping[str, str]) -> sql.Composed:
    """Makes the temporary table: these columns, without what the table itself demands of them."""
    return sql.SQL("CREATE TEMP TABLE {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA").format(
        sql.Identifier(f"staging_{name}"), names(columns), sql.Identifier(name)
    )


def copy(target: sql.Identifier, columns: Mapping[str, str]) -> sql.Composed:
    """A binary COPY into these columns."""
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(target, names(columns))


def merge(name: str, columns: Mapping[str, str], key: Sequence[str], conflict: Conflict) -> sql.Composed:
    """Returns the statement that merges the staging table into the table."""
    changing = [column for column in columns if column not in key]
    if conflict is Conflict.IGNORE or not changing:
        action = sql.Composed([sql.SQL("NOTHING")])
    else:
        sets = (sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in changing)
        action = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(sets))
    return sql.SQL(
        "INSERT INTO {table} ({names}) SELECT {names} FROM {staging} ON CONFLICT ({key}) DO {action}"
    ).format(table=sql.Identifier(name), names=names(columns), staging=staging(name), key=names(key), action=action)


def stored(rollup: Rollup) -> sql.Composed:
    """The rows of a rollup with these keys; its parameters are arrays, one per column of the key."""
    arrays = sql.SQL(", ").join(sql.SQL("%b::{}[]").format(sql.SQL(rollup.columns[name])) for name in rollup.key)
    return sql.SQL("SELECT {} FROM {} JOIN unnest({}) AS asked ({}) USING ({})").format(
        names(rollup.columns), sql.Identifier(rollup.name), arrays, names(rollup.key), names(rollup.key)
    )


def known(reference: Reference, kind: str) -> sql.Composed:
    """Which of the values in an array, the parameter, the other table has."""
    return sql.SQL("SELECT {target} FROM {table} WHERE {target} = ANY (%b::{kind}[])").format(
        target=sql.Identifier(reference.target), table=sql.Identifier(reference.table), kind=sql.SQL(kind)
    )


def copied(table: Table) -> sql.Composed:
    """A binary COPY of a table's rows: into the table where they are appended, else into its staging table."""
    appended = table.conflict is Conflict.APPEND
    return copy(sql.Identifier(table.name) if appended else staging(table.name), table.columns)
