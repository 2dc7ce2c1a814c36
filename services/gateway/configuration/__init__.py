"""The gateway's read model of what operators set: one immutable snapshot, swapped whole."""
