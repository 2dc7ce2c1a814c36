"""Route templates as a tree of segments: literals first, a named parameter where none fits."""

from typing import NamedTuple

from gateway.endpoints import operations, tables
from gateway.endpoints.operations import OTHER, Operation


class Row(NamedTuple):
    """A path and method of a vendor's API. `template` is what follows `/v1`."""

    method: str
    template: str
    dialect: str
    operation: Operation
    is_priced: bool

    @property
    def name(self) -> str:
        """As recorded: the dialect, and the literal segments of the path."""
        literals = [part for part in self.template.split("/") if part and part[0] != ":"]
        return f"{self.dialect}.{'_'.join(literals)}"


class Node:
    """What a segment leads to."""

    __slots__ = ("children", "parameter", "row_by_method")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.parameter: Node | None = None
        self.row_by_method: dict[str, Row] = {}


def rows_of(table: str, dialect: str, posts: dict[str, Operation]) -> list[Row]:
    """The rows of a table of `tables`."""
    rows = []
    for line in table.split("\n"):
        template, *methods = line.split() or [""]
        for method in methods:
            is_priced = not method.endswith("!")
            operation = posts.get(template, OTHER) if method.startswith("POST") else OTHER
            # Anthropic answers this one in OpenAI's dialect.
            speaks = "openai" if template == "/chat/completions" else dialect
            rows.append(Row(method.rstrip("!"), template, speaks, operation, is_priced))
    return rows


def tree_of(rows: list[Row]) -> Node:
    """The root node: its children are the first segments behind `/v1`."""
    root = Node()
    for row in rows:
        node = root
        for part in row.template[1:].split("/"):
            if part.startswith(":"):
                node.parameter = node.parameter or Node()
                node = node.parameter
            else:
                node = node.children.setdefault(part, Node())
        node.row_by_method[row.method] = row
    return root


def find(root: Node, segments: list[str], method: str, start: int = 0) -> Row | None:
    """The row of a path, None when the vendor describes none for it."""
    node = root
    for segment in segments[start:]:
        following = node.children.get(segment, node.parameter)
        if following is None:
            return None
        node = following
    return node.row_by_method.get(method)


OPENAI_ROWS = rows_of(tables.OPENAI, "openai", operations.OPENAI)
ANTHROPIC_ROWS = rows_of(tables.ANTHROPIC, "anthropic", operations.ANTHROPIC)
