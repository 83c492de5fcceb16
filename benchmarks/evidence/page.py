"""Writes ``docs/evidence.md`` from all finished cells."""

from __future__ import annotations

from pathlib import Path

from cells import DOCS, HERE, TABLES, Result, results, table


def mixed(found: dict[str, Result]) -> list[str]:
    """Rows of which an encoder was lost between two sittings and made again."""
    known: dict[str, set[str]] = {}
    for cell, result in found.items():
        if "encoder" in result and not cell.startswith("random"):  # random weights differ by seed, as they should
            known.setdefault(cell.removeprefix("pre-train: ").partition(":")[0], set()).add(result["encoder"])
    return [row for row, encoders in known.items() if len(encoders) > 1]


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
        if several := mixed(found):
            parts.append(f"*Cells of several pre-trainings of the same kind stand in: {', '.join(several)}.*")
        if missing:
            parts.append(f"*{len(every) - missing} of {len(every)} cells are done.*")
    target = DOCS / "evidence.md"
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return target
