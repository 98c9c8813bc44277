"""Months of tenants' events as Parquet in an object store."""
