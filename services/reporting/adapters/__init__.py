"""The outside, one file each, implementing a port."""
