"""The side-by-side benchmark: Tollway and its peers under one load, a core each.

Targets go in, rows of measurements and a table of ratios come out. It never asserts on time: what
is fast enough is said in the table, and noise is shown, not hidden.
"""
