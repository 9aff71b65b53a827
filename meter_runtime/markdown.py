"""Tables in Markdown, for the pages that are written from the code."""

from collections.abc import Iterable


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """The table, a line for each row; cells are taken as they are."""
    titles = tuple(head)
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
