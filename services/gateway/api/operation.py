"""What an admin route promises; the words are shared with reporting."""

from contracts.operation import Operation, QueryParameter, promises

__all__ = ["Operation", "QueryParameter", "promises"]
