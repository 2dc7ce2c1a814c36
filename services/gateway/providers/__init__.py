"""Vendor dialects, one file each, pure: where to call, as whom, and what a setting must hold."""
