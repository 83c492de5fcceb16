"""Writes ``docs/evidence.md`` from all finished cells."""

from __future__ import annotations

from pathlib import Path

from cells import DOCS, HERE, TABLES, results, table


def write() -> Path:
    """The page, anew."""
    parts = [(HERE / "summary.md").read_text(encoding="utf-8").rstrip()]
    for name in TABLES:
        found = results(name)
        if not found:
            continue
        module = table(name)
        every = list(module.cells())
        missing = sum(cell.name not in found for cell in every)
        blocks = [block for block in module.page(found) if block]
        parts += [f"## {module.TITLE}", *blocks]
        if missing:
            parts.append(f"*{len(every) - missing} of {len(every)} cells are done.*")
    target = DOCS / "evidence.md"
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return target
