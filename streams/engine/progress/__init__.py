"""How far a job is: its committed offsets, its topics' layout, its lag, its ledger, and its waits."""
