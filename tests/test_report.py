"""The report page: one file that needs nothing else, shows what it is given, and lets no text do harm."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import pytest

from bothways.errors import BothwaysError
from bothways.report import charts
from bothways.report.page import duration, percent, render_page, size, verdict, whole, write_page

HARM = "<script>alert(1)</script>"
POINTS = [{"step": step, "loss": 9.0 / step**0.3, "accuracy": 0.4 - 0.4 / step} for step in range(1, 60)]
ROWS = [
    {"name": "majority", "role": "baseline", "accuracy": 0.25, "macro_f1": 0.1, "mcc": 0.0, "seconds": 0.001},
    {"name": "TF-IDF", "role": "baseline", "accuracy": 0.80, "macro_f1": 0.79, "mcc": 0.7, "seconds": 1.0},
    {"name": "untrained BERT", "role": "scratch", "accuracy": 0.6, "macro_f1": 0.55, "mcc": 0.4, "seconds": 9.0},
    {"name": "our BERT", "role": "pretrained", "accuracy": 0.9, "macro_f1": 0.89, "mcc": 0.85, "seconds": 9.0},
]
FULL = {
    "title": f"A run {HARM}",
    "summary": f"It learnt {HARM}",
    "seconds": 232.0,
    "machine": f"a machine {HARM}",
    "made": "today",
    "facts": [{"name": "parameters", "value": HARM}],
    "steps": [{"name": "Read", "seconds": 1.5, "note": HARM}, {"name": "Train", "seconds": 100}],
    "corpus": {"source": HARM, "documents": 2341, "paragraphs": 50_211, "words": 1_800_000},
    "vocabulary": {
        "size": 8000,
        "fertility": 1.27,
        "unknown_rate": 0.00001,
        "longest": ["##ization", HARM],
        "samples": [{"text": HARM, "tokens": ["[CLS]", "un", "##hash", HARM, "[SEP]"]}],
    },
    "training": {"train": POINTS, "held_out": POINTS[::10], "note": HARM},
    "filled": [{"text": f"the [MASK] {HARM}", "answer": "dog", "words": [{"word": HARM, "probability": 0.7}]}],
    "attention": {"tokens": ["[CLS]", "$x$", HARM], "heads": [[[0.2, 0.3, 0.5]] * 3] * 2, "layer": 2, "text": HARM},
    "confusion": {"labels": ["a", HARM], "counts": [[731, 2], [3, 4]]},
    "comparison": {"task": HARM, "train": 100, "test": 1000, "rows": [*ROWS, {**ROWS[0], "name": HARM}], "note": HARM},
    "sizes": [{"name": HARM, "parameters": 4_216_832, "bytes": 16_867_328}, {"name": "head", "parameters": 7}],
    "speeds": [{"name": HARM, "rate": 21_300.0, "unit": HARM}],
    "next": [{"command": HARM, "what": HARM}],
}


class Page(HTMLParser):
    """Collects the tags, attributes and text of a page, and notices tags that are not closed."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)


def headings(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_a_full_page_is_well_formed_and_shows_its_figures():
    text = render_page(FULL)
    page = Page(text)
    assert page.open == []
    said = " ".join(page.words)
    for figure in (
        "2,341",
        "50,211",
        "8,000",
        "1.27",
        "< 0.01%",
        "4,216,832",
        "16.9 MB",
        "21,300",
        "3 min 52 s",
        "731",
    ):
        assert figure in said
    assert page.tags.count("svg") == 4  # two curves, two heads
    assert len(headings(text)) == 10


def test_no_text_becomes_markup():
    text = render_page(FULL)
    assert "<script" not in text
    assert "script" not in Page(text).tags
    assert text.count("&lt;script&gt;") >= 20


def test_the_page_loads_nothing():
    page = Page(render_page(FULL))
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    loads = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "srcset", "action"}]
    assert loads
    assert all(value.startswith("#") for value in loads)
    assert "@import" not in render_page(FULL)
    assert not re.search(r"url\((?!#)", render_page(FULL))


def test_identifiers_are_unique_and_every_reference_finds_one():
    page = Page(render_page(FULL))
    identifiers = [value for name, value in page.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    wanted = {value[1:] for name, value in page.attributes if name == "xlink:href"}
    wanted |= {value[5:-1] for name, value in page.attributes if name == "clip-path"}
    assert wanted <= set(identifiers)


@pytest.mark.parametrize("section", [name for name in FULL if name != "title"])
def test_every_section_stands_alone_and_can_be_absent(section):
    alone = render_page({"title": "t", section: FULL[section]})
    assert Page(alone).open == []
    without = headings(render_page({name: value for name, value in FULL.items() if name != section}))
    head = {"summary", "seconds", "machine", "made", "facts"}
    shared = {"sizes", "speeds"}  # two tables of one section
    assert len(headings(alone)) == (0 if section in head else 1)
    assert len(without) == (10 if section in head | shared else 9)


def test_an_empty_page_is_a_page():
    assert headings(render_page({})) == []


def test_sections_without_content_break_nothing():
    empty = {
        "filled": [{"text": "a [MASK]", "words": []}],
        "attention": {"tokens": [], "heads": [], "layer": 1},
        "confusion": {"labels": [], "counts": []},
        "comparison": {"task": "none", "rows": []},
        "training": {"train": [], "held_out": []},
        "vocabulary": {"samples": []},
        "steps": [],
        "next": [],
    }
    assert Page(render_page(empty)).open == []


def test_an_unknown_section_is_an_error_that_names_the_closest():
    with pytest.raises(BothwaysError, match="did you mean 'confusion'"):
        render_page({"confusions": {}})


def test_the_best_figure_of_each_column_is_bold_whoever_wins():
    rows = [dict(row) for row in ROWS]
    rows[1]["mcc"] = 0.99
    text = render_page({"comparison": {"task": "t", "rows": rows}})
    best = re.findall(r'<td class="best">(.*?)</td>', text)
    assert best == ["0.990", "90.0%", "0.890"]


def test_the_verdict_is_honest_whoever_wins():
    def say(scratch, baseline, ours, tested=None):
        roles = {"scratch": scratch, "baseline": baseline, "pretrained": ours}
        return verdict([{"name": role, "role": role, "accuracy": value} for role, value in roles.items()], tested)

    assert "worth 30.0 points" in say(0.6, 0.8, 0.9)
    assert "beats the strongest baseline, baseline, by 10.0" in say(0.6, 0.8, 0.9)
    assert "still ahead by 10.0 points" in say(0.6, 0.9, 0.8)
    assert "cost 10.0 points" in say(0.9, 0.5, 0.8)
    assert "cannot tell them apart" in say(0.1, 0.80, 0.81, tested=500)
    assert "made no difference that 500 examples can show" in say(0.80, 0.1, 0.81, tested=500)
    assert "worth 1.0 points" in say(0.80, 0.1, 0.81, tested=50_000)
    assert verdict(ROWS[:3]) == ""


def test_curves_pass_over_what_is_not_a_number():
    broken = [{"step": 1, "loss": float("nan")}, {"step": 2}, {"step": 3, "loss": None}]
    assert charts.curves("a", "Loss", broken, [], "loss") == ""
    assert "<svg" in charts.curves("a", "Loss", [*broken, {"step": 4, "loss": 1.0}], [], "loss")
    assert "<svg" in charts.curves("a", "Hits", [{"step": 4, "accuracy": 0.0}], [], "accuracy", percent=True)


def test_curves_take_their_colours_from_the_page_and_come_out_the_same():
    drawn = charts.curves("a", "Loss", POINTS, POINTS[::7], "loss")
    assert "var(--first)" in drawn
    assert "var(--second)" in drawn
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    assert drawn == charts.curves("a", "Loss", POINTS, POINTS[::7], "loss")


def test_a_heat_map_has_a_square_for_every_weight_worth_seeing():
    drawn = charts.heat_map(["a", "b"], [[0.999, 0.001], [0.4, 0.6]], "x")
    assert drawn.count("<title>") == 3
    assert "b looks at a: 40%" in drawn


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    assert write_page(target, {"title": "first"}) == target
    with pytest.raises(BothwaysError, match="no section 'nonsense'"):
        write_page(target, {"nonsense": 1})
    assert "first" in target.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(BothwaysError, match="cannot write the report"):
        write_page(tmp_path / "absent" / "report.html", {})


def test_without_the_drawing_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(BothwaysError, match=r"bothways\[torch\]"):
        render_page({})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (whole(1234567), "1,234,567"),
        (whole(1.266), "1.27"),
        (whole(495.46), "495"),
        (whole(12345.6), "12,346"),
        (percent(0.8123), "81.2%"),
        (percent(0.0), "0.0%"),
        (percent(0.00001), "< 0.1%"),
        (duration(0.0001), "< 0.01 s"),
        (duration(59.96), "1 min 00 s"),
        (duration(60), "1 min 00 s"),
        (duration(232.4), "3 min 52 s"),
        (duration(7800), "2 h 10 min"),
        (size(512), "512 B"),
        (size(16_867_328), "16.9 MB"),
        (size(5e12), "5000.0 GB"),
    ],
)
def test_figures_are_written_as_people_write_them(written, meant):
    assert written == meant
