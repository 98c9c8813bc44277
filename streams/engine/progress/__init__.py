"""How far a job is: its committed offsets, its topics' layout, its lag and its ledger."""
