"""Opening files: any compression opens alike, and whatever is wrong is told in one sentence with name and line."""

import gzip
import io
import os
import tracemalloc

import pytest
import zstandard

from bothways.errors import BothwaysError
from bothways.text import files
from bothways.text.files import find_files, kind_of, open_bytes, open_text, replacing

TEXT = "first line\n\nzweite Zeile — ünï\n第三行\nlast"
LINES = [(1, "first line"), (2, ""), (3, "zweite Zeile — ünï"), (4, "第三行"), (5, "last")]


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


def read(path, longest=None):
    with open_text(path, longest) as lines:
        return list(lines)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst", "a"])
def test_every_compression_opens_under_every_name(compress, name, tmp_path):
    (tmp_path / name).write_bytes(compress(TEXT.encode()))
    assert read(tmp_path / name) == LINES
    assert read(str(tmp_path / name)) == LINES


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_compressed_parts_written_one_after_the_other_read_as_one(compress, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"".join(compress(line.encode()) for line in TEXT.splitlines(keepends=True)))
    assert read(tmp_path / "a.txt") == LINES


def test_windows_line_ends_and_a_byte_order_mark_disappear(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read(tmp_path / "a.txt") == LINES


def test_other_separators_of_unicode_do_not_end_a_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\u2028two\x0bthree\x85four\nfive\n".encode())
    assert read(tmp_path / "a.txt") == [(1, "one\u2028two\x0bthree\x85four"), (2, "five")]


def test_standard_input_is_read_and_left_open(monkeypatch):
    for data in (TEXT.encode(), gzip.compress(TEXT.encode())):
        stream = io.BytesIO(data)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
        assert read("-") == LINES
        assert not stream.closed


def test_standard_input_that_is_closed_is_told(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(BothwaysError, match="standard input is closed"):
        read("-")


@pytest.mark.parametrize("longest", [8, 9, 10, 13, 64])
def test_long_lines_come_in_pieces_that_lose_nothing(longest, tmp_path):
    text = "words of a line that does not end " * 5 + "\nshort\n" + "長い行" * 20
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    pieces = read(tmp_path / "a.txt", longest)
    assert {number for number, _ in pieces} == {1, 2, 3}
    for number, line in enumerate(text.split("\n"), start=1):
        mine = [piece for place, piece in pieces if place == number]
        assert "".join(mine).replace(" ", "") == line.replace(" ", "")
        assert max(len(piece.encode()) for piece in mine) <= 2 * longest
    words = " ".join(piece for number, piece in pieces if number == 1).split()
    assert words == text.split("\n")[0].split()


def bad_files():
    plain, packed = TEXT.encode() * 2000, gzip.compress(os.urandom(5000))
    return [
        (b"", "is empty"),
        (gzip.compress(b""), "is empty"),
        (b"fine\nfine\ncaf\xe9\n", r"line 3: not UTF-8 \(byte 0xe9 at column 4\)"),
        (gzip.compress(b"caf\xe9\n"), "line 1: not UTF-8"),
        (b"fine\nnot \x00 fine\n", r"binary file.*line 2 holds a NUL byte"),
        ("text".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"%PDF-1.7", "PDF"),
        (b"PAR1....", "parquet"),
        (b"\n <!DOCTYPE html><p>text", "an HTML page"),
        (b"\xef\xbb\xbf<!DOCTYPE html><p>text", "an HTML page"),
        (packed[:-300], "cut off"),
        (gzip.compress(plain)[:-4], "cut off"),
        (zstd(plain)[:-4], "cut off"),
        (packed[:2000] + b"XXXX" + packed[2004:], "damaged|not UTF-8|binary"),
        (gzip.compress(plain)[:-8] + b"wrong!!!", "damaged"),
        (zstd(plain)[:20] + b"\xff" * 100, "damaged"),
    ]


# Names without the bytes, which differ from process to process: parallel runs compare the names of tests
@pytest.mark.parametrize(("content", "message"), bad_files(), ids=lambda v: v if isinstance(v, str) else "content")
def test_a_bad_file_is_refused_in_one_sentence_with_its_name(content, message, tmp_path):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(BothwaysError, match=message) as caught:
        read(tmp_path / "bad.txt")
    assert "bad.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_the_nearest_name(tmp_path):
    (tmp_path / "reviews.csv").write_text("x")
    with pytest.raises(BothwaysError, match=r"there is no file .*reveiws\.csv; did you mean 'reviews\.csv'\?"):
        read(tmp_path / "reveiws.csv")
    with pytest.raises(BothwaysError, match="there is no file"):
        read(tmp_path / "nowhere" / "a.txt")
    with pytest.raises(BothwaysError, match="is a folder"):
        read(tmp_path)


def test_a_whole_text_passed_for_a_name_is_refused():
    for text in ("a long text " * 500, "two\nlines"):
        with pytest.raises(BothwaysError, match=r"there is no file '.*goes in a list"):
            find_files(text)


def test_kinds_are_told_by_name_below_the_compression():
    told = {
        "a.txt": "text",
        "a.JSONL.gz": "jsonl",
        "b.c.tsv.zst": "tsv",
        "x.parquet": "parquet",
        "x": None,
        "x.gz": None,
    }
    assert {name: kind_of(name) for name in told} == told


def test_a_folder_gives_its_files_and_those_below_in_order(tmp_path):
    for name in ("b.txt", "a/z.jsonl", "a/b/c.csv.gz", "a.parquet", "notes.docx", ".hidden.txt", ".git/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path)]
    assert found == ["a/b/c.csv.gz", "a/z.jsonl", "a.parquet", "b.txt"]


def test_linked_folders_are_read_once_and_circles_end(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "y.txt").write_text("y")
    (tmp_path / "texts" / "a").mkdir(parents=True)
    (tmp_path / "texts" / "a" / "x.txt").write_text("x")
    for name, to in (("linked", "far"), ("linked-too", "far"), ("a/round", "texts")):
        (tmp_path / "texts" / name).symlink_to(tmp_path / to, target_is_directory=True)
    assert [path.name for path in find_files(tmp_path / "texts")] == ["x.txt", "y.txt"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.txt").write_text("x")
    real = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BothwaysError, match=r"closed cannot be read \(Permission denied\)"):
        find_files(tmp_path)


def test_a_folder_without_known_files_says_so(tmp_path):
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(BothwaysError, match=r"holds no file to read \(known: \.txt"):
        find_files(tmp_path)


@pytest.mark.parametrize("compress", [bytes, zstd])
def test_a_large_file_is_read_in_little_memory(compress, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", files.BLOCK >> 4)
    numbers = (number * 2654435761 % 2**32 for number in range(50_000))
    text = "".join(f"a line of some forty characters {number:x}\n" for number in numbers)  # 2 MB
    (tmp_path / "a.txt").write_bytes(compress(text.encode()))
    del text
    tracemalloc.start()
    with open_text(tmp_path / "a.txt") as lines:
        count = sum(1 for _ in lines)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 50_000
    assert peak < 1_000_000


def test_replacing_leaves_the_old_file_when_writing_fails(tmp_path):
    target = tmp_path / "a.json"
    with replacing(target) as path:
        path.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(UnicodeEncodeError), replacing(target) as path:
        path.open("w", encoding="ascii").write("half é")
    assert target.read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(BothwaysError, match="cannot be written"), replacing(tmp_path / "no" / "a.json") as path:
        path.write_text("x")


def test_the_bytes_of_any_file_can_be_had(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"PAR1\x00\x01"))
    with open_bytes(tmp_path / "a.gz", binary=True) as stream:
        assert stream.read() == b"PAR1\x00\x01"
