"""A page with points that can be zoomed, searched and read: `write_map` turns plain data into one HTML file.

The page needs nothing else; points are drawn on a canvas, so that a hundred thousand of them move smoothly. The data:

    title      what is shown
    place      where it comes from
    points     [[x, y]] between -1 and 1
    groups     [number] of each point: its place in `names`
    names      [name] of the groups
    documents  [name] of each point
    texts      [text] of each point
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bothways.errors import need
from bothways.report.writing import write_whole


def write_map(path: str | Path, data: Mapping[str, Any]) -> Path:
    """Writes the page, whole or not at all.

    Args:
        path: The HTML file.
        data: What it shows; the schema stands at the top of this module.

    Returns:
        The path.

    Raises:
        BothwaysError: The file cannot be written.
    """
    jinja2 = need("jinja2", "torch", "The map")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("bothways", "report"), autoescape=True)
    # a text may hold what ends a script, or a separator that JSON allows and scripts do not
    escaped = json.dumps(dict(data), ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    page = environment.get_template("map.html.j2").render(title=data["title"], place=data["place"], data=escaped)
    return write_whole(path, page, "the map")
