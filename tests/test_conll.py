"""Words with tags from files of columns, from lists of words, and from texts with marked parts."""

import gzip
import json

import pytest

from bothways.errors import BothwaysError
from bothways.text.tagged_rows import read_tagged

CONLL2003 = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC

-DOCSTART- -X- -X- O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""
CONLL2000 = "Confidence NN B-NP\nin IN B-PP\n# # B-NP\n\n\nSales NNS B-NP"
CONLLU = """# sent_id = one
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\tV1\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP1\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\tS\t_\t5\tcase\t_\t_
4\tel\tel\tDET\tD\t_\t5\tdet\t_\t_
4.1\tgran\tgran\tADJ\tA\t_\t_\t_\t_\t_
5\tmar\tmar\tNOUN\tN\t_\t1\tobl\t_\t_

# sent_id = two
1\tde facto\tde facto\tADV\tR\t_\t0\troot\t_\t_
"""


@pytest.fixture
def file(tmp_path):
    def write(text, name="data.conll"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def rows(source, **settings):
    return [
        ([row.text[start:end] for start, end in row.offsets], row.tags) for row in read_tagged(source, **settings)[1]
    ]


@pytest.mark.parametrize("change", [lambda text: text, lambda text: text.replace(" ", "\t"), lambda t: t + "\n\n \n"])
@pytest.mark.parametrize("name", ["eng.train", "data.txt", "data.tsv", "data.conll.gz"])
def test_conll_2003_by_spaces_or_tabs_without_documents_marks(file, change, name):
    path = file(change(CONLL2003), name)
    expected = [
        (["EU", "rejects", "German"], ["I-ORG", "O", "I-MISC"]),
        (["Peter", "Blackburn"], ["I-PER", "I-PER"]),
    ]
    assert rows(path) == expected
    assert rows(path, label="ner") == expected
    assert rows(path, label="pos")[1][1] == ["NNP", "NNP"]
    assert rows(path, label="3")[0][1] == ["I-NP", "I-VP", "I-NP"]
    assert [row.where for row in read_tagged(path)[1]] == [f"{path}, line 3", f"{path}, line 9"]


def test_conll_2000_where_a_number_sign_is_a_word(file):
    assert rows(file(CONLL2000)) == [
        (["Confidence", "in", "#"], ["B-NP", "B-PP", "B-NP"]),
        (["Sales"], ["B-NP"]),
    ]


def test_comments_are_no_words_though_they_have_as_many_columns(file):
    text = "# id one domain=en\nEU _ _ B-ORG\n# _ _ O\n\n# id two domain=en\nPeter _ _ B-PER\n"
    assert rows(file(text)) == [(["EU", "#"], ["B-ORG", "O"]), (["Peter"], ["B-PER"])]


@pytest.mark.parametrize("mark", [" ", "\t"])
def test_words_that_begin_with_a_number_sign_are_no_comments(file, mark):
    text = "# id one\n#London_B-LOC\nis_O\n\n# id two\n##_O\n#1_B-X\n\n#alone_O\n".replace("_", mark)
    assert rows(file(text)) == [
        (["#London", "is"], ["B-LOC", "O"]),
        (["##", "#1"], ["O", "B-X"]),
        (["#alone"], ["O"]),
    ]


def test_conll_u_has_words_not_tokens_and_columns_by_name(file):
    path = file(CONLLU, "es.conllu")
    assert rows(path) == [
        (["Vamos", "nos", "a", "el", "mar"], ["VERB", "PRON", "ADP", "DET", "NOUN"]),
        (["de facto"], ["ADV"]),
    ]
    assert rows(path, label="xpos")[0][1] == ["V1", "P1", "S", "D", "N"]
    with pytest.raises(BothwaysError, match=r"no column 'xpros'.*did you mean 'xpos'"):
        rows(path, label="xpros")


def test_several_files_and_folders_are_read_one_after_the_other(file, tmp_path):
    first, second = file(CONLL2000, "a.conll"), file(CONLL2000, "b.conll")
    assert len(rows([first, str(second)])) == len(rows(tmp_path)) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a X B-X\nb X\n", "line 2: 2 columns where line 1 has 3"),
        ("alone\n", "line 1: one column"),
        ("-DOCSTART- O\n\n", "holds no words"),
        ("a\tO\n\tO\n", "line 2: there is no word"),
        ("a\tO\nb\t\n", "line 2: there is no tag"),
    ],
)
def test_files_of_columns_are_refused_with_the_line(file, text, told):
    with pytest.raises(BothwaysError, match=told):
        rows(file(text))


LISTS = [
    {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"], "pos": ["NNP", "VBZ"]},
    {"tokens": [], "tags": [], "pos": []},
]
MARKED = {
    "text": "  Ada Lovelace lived in London.",
    "spans": [{"start": 24, "end": 30, "label": "LOC"}, [2, 14, "PER"]],
}


def test_lists_of_words_from_files_frames_and_lists(file):
    import pandas as pd

    path = file("\n".join(json.dumps(row) for row in LISTS), "rows.jsonl")
    for source in (path, LISTS, pd.DataFrame(LISTS), iter(LISTS)):
        assert rows(source) == [(["EU", "rejects"], ["B-ORG", "O"])]
    assert rows(path, label="pos") == [(["EU", "rejects"], ["NNP", "VBZ"])]
    assert rows(file(path.read_text(), "rows.txt")) == rows(path)


def test_numbered_tags_of_a_data_set_get_their_names():
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    features = Features(
        {"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=["O", "B-PER", "I-PER"]))}
    )
    data = Dataset.from_dict({"tokens": [["Ada", "L.", "wrote"]], "ner_tags": [[1, 2, 0]]}, features=features)
    assert rows(data) == [(["Ada", "L.", "wrote"], ["B-PER", "I-PER", "O"])]


def test_marked_parts_become_tags_of_words_and_keep_their_places():
    (row,) = read_tagged([MARKED])[1]
    assert row.text == MARKED["text"]
    words = [row.text[start:end] for start, end in row.offsets]
    assert words == ["Ada", "Lovelace", "lived", "in", "London", "."]
    assert row.tags == ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    assert row.marked


def marked(start, end, label="LOC", text=MARKED["text"]):
    return [{"text": text, "entities": [{"start": start, "end": end, "type": label}]}]


def test_a_part_that_ends_inside_a_word_is_refused_with_what_it_may_mean_or_widened():
    with pytest.raises(BothwaysError) as error:
        rows(marked(25, 30))
    told = str(error.value)
    assert told.startswith("the list, row 1: 'ondon' (LOC, characters 25 to 30) ends inside a word")
    assert "'London' (24 to 30)" in told
    assert rows(marked(25, 30), expand=True)[0][1] == ["O", "O", "O", "O", "B-LOC", "O"]
    assert rows(marked(7, 16), expand=True)[0][1] == ["O", "B-LOC", "I-LOC", "O", "O", "O"]


def test_white_space_at_the_ends_of_a_part_is_no_mistake():
    assert rows(marked(23, 30)) == rows(marked(24, 30))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([{"tokens": ["a", "b"], "tags": ["O"]}], "row 1: 2 words but 1 tags"),
        ([{"tokens": ["a", 3], "tags": ["O", "O"]}], "row 1: word 2 in the column 'tokens' is no text but 3"),
        ([{"tokens": ["a"], "tags": [None]}], "row 1: word 1 .'a'. has no tag"),
        ([{"tokens": ["a"], "tags": "O"}], "row 1: the column 'tags' should hold a list"),
        ([{"tokens": ["a"], "tags": ["O"]}, {"tokens": None, "tags": ["O"]}], "row 2: there is nothing in the column"),
        ([{"tokens": ["a"], "mood": ["O"]}], "not clear which column of the list holds the tags"),
        (marked(24, 99), "row 1, column 'entities', part 1: characters 24 to 99 hold nothing"),
        (marked(5, 5), "characters 5 to 5"),
        (marked(0, 2), "characters 0 to 2"),
        (marked("0", 2), "part 1: should be"),
        ([{"text": "a b", "spans": [[0, 3, "X"], [2, 3, "Y"]]}], "row 1: 'b' .Y. overlaps the part before"),
        ([{"text": "a b", "spans": "a"}], "should hold a list"),
    ],
)
def test_rows_are_refused_with_their_place(given, told):
    with pytest.raises(BothwaysError, match=told):
        rows(given)


def test_a_column_that_is_absent_is_named_with_those_there_are():
    with pytest.raises(BothwaysError, match=r"no column 'poss'.*did you mean 'pos'"):
        rows(LISTS, label="poss")
