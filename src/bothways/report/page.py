"""One page that explains a run: `write_page` turns plain data into a single HTML file.

The page needs nothing else: styles and pictures stand inside it, nothing is loaded from anywhere. It follows the
reader's choice of light or dark, and can be printed. Every text is escaped.

The data is a dictionary of strings, numbers, lists and dictionaries. Every entry but the title may be absent, and then
its section is left out:

    title        what was run
    summary      one sentence: what came out
    seconds      how long it took
    machine      one line: processor, threads, precision
    made         when, as text
    facts        [{name, value}]                                   figures for the head of the page, as text
    steps        [{name, seconds, note?}]                          what was done, in order
    corpus       {documents, paragraphs, words, tokens, source?}   any further number is shown by its name
    vocabulary   {size, fertility, unknown_rate, longest: [token], samples: [{text, tokens: [token]}]}
                 fertility is tokens a word; unknown_rate a share of the words
    training     {train: [point], held_out: [point], note?}        point = {step, loss, accuracy}; loss in nats
    filled       [{text, answer?, words: [{word, probability}]}]   the text holds [MASK]; the answer is what stood there
    attention    {text?, tokens: [token], heads: [[[weight]]], layer, note?}        a square of weights a head
    confusion    {labels: [label], counts: [[int]]}                row = what it is, column = what the model said
    comparison   {task, train, test, rows: [{name, role, accuracy, macro_f1, mcc, seconds}], note?}
                 role is "pretrained" (one row), "scratch" (one row: the same without pre-training) or "baseline"
    sizes        [{name, parameters?, bytes?}]
    speeds       [{name, rate, unit}]
    results      [{name, value}]                                   as text
    curves       {charts: [{title, lines, unit?, scale?, level?, axis?}], note?}    as `charts.lines` draws them
    bars         {charts: [{title, groups, bars, axis?, unit?}], note?}             as `charts.bars` draws them
    samples      {steps: [step], texts: [{text, masked: [{right, guesses}]}], note?}
                 the text holds a [MASK] a masked place; guesses = [[[token, share]]], a list a step
    judgement    what a model is worth, as `judgement_page.judgement_page` puts it together
    card         what a corpus holds, as `corpus_page.corpus_page` puts it together
    settings     [{name, value}]                                   as text
    next         [{command, what}]                                 what to type next
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest, need
from bothways.report import charts, judgement_charts
from bothways.report.writing import write_whole

SECTIONS = (
    *("title", "summary", "seconds", "machine", "made", "facts", "steps", "corpus", "vocabulary", "training"),
    *("filled", "attention", "confusion", "comparison", "sizes", "speeds"),
    *("judgement", "results", "curves", "bars", "samples", "card", "settings", "next"),
)


def write_page(path: str | Path, data: Mapping[str, Any]) -> Path:
    """Writes the page of a run, whole or not at all.

    Args:
        path: The HTML file to write.
        data: What the page says; the schema stands at the top of this module.

    Returns:
        The path.

    Raises:
        BothwaysError: The data has a section that no page knows, or the file cannot be written.
    """
    return write_whole(path, render_page(data), "the report")


def render_page(data: Mapping[str, Any]) -> str:
    """The page of a run as HTML text; arguments and errors as in `write_page`."""
    for name in data:
        if name not in SECTIONS:
            raise BothwaysError(f"the report has no section {name!r}{closest(name, SECTIONS)}")
    jinja2 = need("jinja2", "torch", "The report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bothways", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(whole=whole, percent=percent, duration=duration, size=size, words=_words)
    template = environment.get_template("page.html.j2")
    rendered: str = template.render({**dict.fromkeys(SECTIONS), **data, "pictures": _pictures(data, jinja2)})
    return rendered


def _pictures(data: Mapping[str, Any], jinja2: Any) -> dict[str, Any]:
    """What the template shows and does not compute."""
    from markupsafe import Markup

    pictures: dict[str, Any] = {}
    if training := data.get("training"):
        train, held_out = training.get("train", []), training.get("held_out", [])
        drawn = [
            charts.curves("loss", "Loss (nats per predicted token)", train, held_out, "loss"),
            charts.curves("hits", "Masked words guessed right", train, held_out, "accuracy", percent=True),
        ]
        pictures["training"] = [Markup(svg) for svg in drawn if svg]
    for section, draw in (("curves", _lines), ("bars", _bars)):
        asked = (data.get(section) or {}).get("charts", [])
        drawn = [draw(f"{section}{number}", chart) for number, chart in enumerate(asked)]
        pictures[section] = [Markup(svg) for svg in drawn if svg]
    if judgement := data.get("judgement"):
        pictures["judgement"] = [Markup(svg) for svg in _judged(judgement) if svg]
    if (attention := data.get("attention")) and attention["tokens"]:
        pictures["attention"] = [
            Markup(charts.heat_map(attention["tokens"], weights, f"Attention of head {number}"))
            for number, weights in enumerate(attention["heads"], start=1)
        ]
    if comparison := data.get("comparison"):
        pictures["verdict"] = verdict(comparison["rows"], comparison.get("test"))
        pictures["best"] = {
            key: max((row[key] for row in comparison["rows"] if row.get(key) is not None), default=None)
            for key in ("accuracy", "macro_f1", "mcc")
        }
    return pictures


def _judged(judgement: Mapping[str, Any]) -> list[str]:
    drawn = []
    if calibration := judgement["calibration"]:
        drawn.append(judgement_charts.reliability("reliability", calibration, calibration["before"]))
    for number, chart in enumerate(judgement["groups"]):
        drawn.append(
            judgement_charts.groups(f"groups{number}", chart["title"], chart["axis"], chart["metric"], chart["rows"])
        )
    drawn.append(judgement_charts.scatter("scatter", judgement["scatter"]))
    if curve := judgement["curve"]:
        drawn.append(judgement_charts.learning_curve("learning", curve["metric"], curve["points"]))
    return drawn


def _lines(name: str, chart: Mapping[str, Any]) -> str:
    options = {key: chart[key] for key in ("scale", "unit", "level", "axis") if key in chart}
    return charts.lines(name, chart["title"], chart["lines"], **options)


def _bars(name: str, chart: Mapping[str, Any]) -> str:
    options = {key: chart[key] for key in ("axis", "unit") if key in chart}
    return charts.bars(name, chart["title"], chart["groups"], chart["bars"], **options)


def verdict(rows: Sequence[Mapping[str, Any]], tested: int | None = None) -> str:
    """Says in words what a comparison shows, whoever wins.

    Args:
        rows: Contenders with ``name``, ``role`` ("pretrained", "scratch", "baseline") and ``accuracy``.
        tested: How many examples were scored; differences smaller than twice their standard error are called so.

    Returns:
        One or two sentences; empty when no row has the role "pretrained".
    """
    by_role = {row["role"]: row for row in rows}
    if "pretrained" not in by_role:
        return ""
    ours, sentences = by_role["pretrained"], []
    if "scratch" in by_role:
        sentences.append(_gain(ours["accuracy"], by_role["scratch"]["accuracy"], tested))
    if baselines := [row for row in rows if row["role"] == "baseline"]:
        best = max(baselines, key=lambda row: row["accuracy"])
        sentences.append(_against(ours["accuracy"], best["accuracy"], best["name"], tested))
    return " ".join(sentences)


def _gain(ours: float, scratch: float, tested: int | None) -> str:
    points = abs(ours - scratch) * 100
    if _alike(ours, scratch, tested):
        return (
            f"Pre-training made no difference that {tested:,} examples can show "
            f"({ours:.1%} with it, {scratch:.1%} without)."
        )
    if ours > scratch:
        return f"Pre-training is worth {points:.1f} points of accuracy: {ours:.1%} with it, {scratch:.1%} without."
    return f"Pre-training cost {points:.1f} points of accuracy here: {ours:.1%} with it, {scratch:.1%} without."


def _against(ours: float, best: float, name: str, tested: int | None) -> str:
    points = abs(ours - best) * 100
    if _alike(ours, best, tested):
        return f"The strongest baseline, {name}, does as well ({best:.1%}): {tested:,} examples cannot tell them apart."
    if ours > best:
        return f"It beats the strongest baseline, {name}, by {points:.1f} points."
    return (
        f"The strongest baseline, {name}, is still ahead by {points:.1f} points ({best:.1%}): "
        "a longer pre-training on more text is what usually changes that."
    )


def _alike(first: float, second: float, tested: int | None) -> bool:
    if not tested:
        return False
    return abs(first - second) <= 2 * math.sqrt((first * (1 - first) + second * (1 - second)) / tested)


def whole(number: float) -> str:
    """A count as people write it: 12,345; a small number that is not whole keeps two places."""
    return f"{number:,.0f}" if float(number).is_integer() or abs(number) >= 100 else f"{number:,.2f}"


def percent(share: float, places: int = 1) -> str:
    """A share of one as per cent; what is too small to show is not called nothing."""
    smallest = 10.0**-places
    return f"< {smallest:g}%" if 0 < share * 100 < smallest else f"{share * 100:.{places}f}%"


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.42 s, 8.3 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 1:
        return f"{seconds:.2f} s" if seconds >= 0.005 else "< 0.01 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes as people say them: 512 B, 17.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def _words(tokens: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Tokens as words of one part or several, each with what it says and whether it is a special token."""
    words: list[list[dict[str, Any]]] = []
    for token in tokens:
        special = token.startswith("[") and token.endswith("]") and len(token) > 2
        goes_on = token.startswith("##") and len(token) > 2
        if not goes_on or not words:
            words.append([])
        words[-1].append({"text": token[2:] if goes_on else token, "special": special})
    return words
