"""How far a job is: its committed offsets, its topics' layout, its lag and its ledger. `waits`: what a worker waits
for (Kafka away, a topic missing, an open transaction), and after how long it asks or gives up.
"""
