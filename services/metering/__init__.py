"""Books the exchanges: parcels in, signed ledger entries out, net effect one per request.

Enters: parcels of raw events from the stream, in the order of each incarnation's journal. Leaves:
rows of the ledger and bodies, a checkpoint per partition, dead letters. Never: a second owner's
work undone, a count taken from anywhere but the ledger, a clock that decides what is true.
"""
