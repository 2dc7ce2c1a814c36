"""What the services say to each other.

Enters: nothing. Leaves: the structs, names and framings that cross a process border.
Never: I/O, settings, a clock, another package of this house. A struct here changes only by a new
version tag, and every version has golden examples that every decoder must read, for ever.
"""
