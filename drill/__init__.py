"""Drills: the whole product under load and faults, its books compared with two other records.

What the client wrote down, what the provider wrote down and what the ledger says must agree. The
long runs are `python -m drill`; the short ones, made of the same parts, are in `tests/drill`.
"""
