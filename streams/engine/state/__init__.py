"""State: tables in memory and in RocksDB."""
