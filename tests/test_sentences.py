"""Sentences: where they end, where they do not, and that nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.text.sentences import split_sentences

# Each line is one paragraph; " | " stands where a sentence ends.
PARAGRAPHS = """
It rained. | We stayed in.
Really?! | Yes! | Perhaps… | Who knows?
Dr. Smith met Mr. and Mrs. J. R. R. Tolkien. | They talked.
He came from the U.S. | It was late, about 5 p.m. | They ate fruit, e.g. Apples, i.e. food, etc. | Then he left.
The U.S. Navy and the Acme Co. Ltd. agreed.
Pi is 3.14 and it costs $5.50. | See No. 5, pp. 3 and Fig. 7. | I said no. | Stop.
"What?" he said. | "Go!" | She went.
"It is done." | He smiled (as ever.) | Then he left.
“Nobody knows.” | “Somebody does.”
It grew.[1] | Then it shrank.[12] | All is well.
After World War I. | The end.
Wait... what? | Wait... | What?
He was born in 1987. | 40 years later he died.
1. Open the box. | 2. Look inside. | B. Close it.
Samuel L. Jackson vs. George W. Bush Jr. was shown on Jan. 5 again.
今日は。|元気ですか？|「はい！」|終わり
यह है। | वह है।
هل هذا صحيح؟ | نعم.
no mark at the end
version 2.0.1 of numpy.linalg is out. it is in small letters, so this is one. | No.
""".strip().split("\n")


@pytest.mark.parametrize("marked", PARAGRAPHS)
def test_sentences_end_where_a_reader_ends_them(marked):
    paragraph = marked.replace(" | ", " ").replace("|", "")
    assert split_sentences(paragraph) == [sentence.strip() for sentence in marked.split("|")]


ALPHABET = st.one_of(
    st.sampled_from([*".!?…。 \n\t\"'([)]*Aa1I今。", "Dr. ", "U.S. ", ". The ", "[1] "]), st.characters()
)


@given(st.lists(ALPHABET, max_size=40).map("".join))
def test_only_white_space_is_left_out(paragraph):
    sentences = split_sentences(paragraph)
    assert "".join("".join(sentences).split()) == "".join(paragraph.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


def test_a_run_of_marks_is_looked_at_once():
    dots = "." * 200_000
    assert split_sentences(f"Contents {dots} 12") == [f"Contents {dots}", "12"]
    assert split_sentences(f"Contents {dots}12") == [f"Contents {dots}12"]  # took half an hour


@given(st.lists(st.sampled_from(["One day it rained.", "Was it late?", "They ate!"]), min_size=1, max_size=8))
def test_line_breaks_and_spaces_split_alike(sentences):
    assert split_sentences(" ".join(sentences)) == split_sentences("\n".join(sentences)) == sentences
