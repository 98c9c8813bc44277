"""The engine's vocabulary: records, jobs, errors, ledger, watermarks."""
