"""How tags write spans: told apart, repaired, turned into each other."""

import numpy as np
import pytest

from bothways.errors import BothwaysError
from bothways.text.tag_schemes import SCHEMES, TagSet, allowed, in_scheme, read_tags, scheme_of, tag_names

SAME = {  # the same spans in each scheme; the second text begins inside nothing
    "BIO": "B-X I-X B-X O B-Y B-Z I-Z I-Z|B-X O",
    "IOB1": "I-X I-X B-X O I-Y I-Z I-Z I-Z|I-X O",
    "BIOES": "B-X E-X S-X O S-Y B-Z I-Z E-Z|S-X O",
    "BILOU": "B-X L-X U-X O U-Y B-Z I-Z L-Z|U-X O",
}


def arrays(text):
    rows = [row.split() for row in text.split("|")]
    names = list(dict.fromkeys(tag for row in rows for tag in row))
    return names, np.array([names.index(tag) for row in rows for tag in row]), np.cumsum([0, *map(len, rows)])


def read(text, scheme=None):
    names, tags, edges = arrays(text)
    found = read_tags(names, tags, edges, lambda row: f"row {row + 1}", scheme)
    return found, " ".join(found.names[tag] for tag in found.tags)


@pytest.mark.parametrize("scheme", SAME)
def test_a_scheme_is_told_from_its_tags(scheme):
    found, said = read(SAME[scheme])
    assert (found.found, found.repaired) == (scheme, 0)
    assert found.scheme == ("BIO" if scheme == "IOB1" else scheme)
    assert said == SAME[found.scheme].replace("|", " ")


@pytest.mark.parametrize("source", SAME)
@pytest.mark.parametrize("target", ["BIO", "BIOES", "BILOU"])
def test_any_scheme_is_turned_into_any_other_without_loss(source, target):
    names, tags, edges = arrays(SAME[source])
    wanted = tag_names(("X", "Y", "Z"), target)
    found = in_scheme(TagSet(names), tags, edges, wanted, target)
    assert " ".join(wanted[tag] for tag in found) == SAME[target].replace("|", " ")


def test_parts_of_speech_are_no_spans():
    found, said = read("DET NOUN VERB -LRB- -RRB-|PROPN O")
    assert (found.scheme, found.repaired, said) == ("words", 0, "DET NOUN VERB -LRB- -RRB- PROPN O")
    assert scheme_of(("DET", "NOUN")) == "words"


def test_spans_of_one_kind_need_no_name():
    found, said = read("B I O B O")
    assert (found.scheme, said) == ("BIO", "B I O B O")


@pytest.mark.parametrize(
    ("text", "repaired", "expected"),
    [
        ("B-X I-X O I-X O B-Y|B-X", 1, "B-X I-X O B-X O B-Y B-X"),
        ("B-X I-Y O B-X", 1, "B-X B-Y O B-X"),
        ("B-X I-X|I-X O B-Y", 1, "B-X I-X B-X O B-Y"),
        ("S-X O B-X O B-X E-X", 1, "S-X O S-X O B-X E-X"),
        ("S-X B-X I-X O", 1, "S-X B-X E-X O"),
    ],
)
def test_what_does_not_fit_is_repaired_and_counted(text, repaired, expected):
    found, said = read(text)
    assert (found.repaired, said) == (repaired, expected)


def test_another_letter_for_the_same_is_no_repair():
    found, said = read("B-X M-X M-X E-X O S-Y")
    assert (found.scheme, found.repaired, said) == ("BIOES", 0, "B-X I-X I-X E-X O S-Y")
    assert read("B-X M-X M-X O S-Y B-Y E-Y S-X")[0].repaired == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("O B-X|O PER|O I-X", "row 2: the tag 'PER' does not say"),
        ("B-X E-X O|O U-X", "row 2: the tag 'U-X' is of the scheme BILOU"),
        ("|".join(["S-X O"] * 30 + ["B-X I-X O"] * 12), "row 31: a span is written as in the scheme BIO, but 30"),
        ("|".join(["B-X I-X O"] * 30 + ["O I-X"] * 12), "row 31: a span is written as in the scheme IOB1, but 30"),
    ],
)
def test_mixed_schemes_are_refused_with_the_row(text, told):
    with pytest.raises(BothwaysError, match="in one scheme") as error:
        read(text)
    assert str(error.value).startswith(told)


def test_a_scheme_that_is_said_is_taken():
    mixed = "|".join(["B-X I-X O"] * 30 + ["O I-X"] * 12)
    assert read(mixed, "BIO")[0].repaired == 12
    assert read(SAME["BIO"], "words")[0].scheme == "words"
    with pytest.raises(BothwaysError, match=r"BIOSE.*did you mean 'BIOES'"):
        read(SAME["BIO"], "BIOSE")


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "BILOU"])
def test_what_is_allowed_is_what_writing_yields(scheme):
    """Of all sequences of four tags those are allowed that come back unchanged from their spans."""
    names = tag_names(("X", "Y"), scheme)
    may = allowed(names, scheme)
    every = np.array(np.meshgrid(*[np.arange(len(names))] * 4)).reshape(4, -1).T
    edges = np.arange(0, every.size + 1, 4)
    same = in_scheme(TagSet(names), every.ravel(), edges, names, scheme).reshape(-1, 4)
    valid = may.begins[every[:, 0]] & may.ends[every[:, 3]] & may.follows[every[:, :3], every[:, 1:]].all(1)
    assert (valid == (same == every).all(1)).all()
    assert scheme_of(names) == scheme


def test_schemes_have_names():
    assert set(SAME) | {"words"} == set(SCHEMES)
