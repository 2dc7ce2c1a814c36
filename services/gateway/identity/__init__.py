"""Credentials in, principal out. Never logs a credential, never lets one travel on."""
