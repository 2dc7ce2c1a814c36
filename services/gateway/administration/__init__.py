"""Admin use cases, one resource a file: validate, store, announce."""
