"""Counting and rating: how many of what an exchange used, and what that costs.

In come finished exchanges (bytes as the provider sent them) and an immutable price book; out go
disjoint quantities with the grade of their evidence and integer amounts per meter. Pure: nothing
here opens a socket, reads the environment or knows the time. The gateway's holds and the bill use
this same code, so they cannot disagree.
"""
