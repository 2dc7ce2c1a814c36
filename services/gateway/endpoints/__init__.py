"""What the client speaks: path and body in, a call out. One API shape a file, one line in registry."""
