"""Documentation as a corpus: what is read, what is left out, and that nothing of it runs."""

import sysconfig
from pathlib import Path
from textwrap import dedent

import pytest

from bothways.text.documents import Document
from bothways.text.prose import paragraphs
from bothways.text.pydocs import package_of, python_documentation


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content), encoding="utf-8")
    return folder


@pytest.fixture
def packages(tmp_path):
    return write(
        tmp_path / "site-packages",
        {
            "lamp/__init__.py": '''
                """Light for dark rooms and for long evenings.

                All of it is made of glass, except what is not."""
                raise SystemExit("imported")
            ''',
            "lamp/bulb.py": """
                '''A bulb is what the light comes from.'''
                class Bulb:
                    '''Shines for as long as there is any current.'''
                    def on(self, power=")"):  # a quote in a comment: \"\"\"
                        r'''Turn the bulb on until it is turned off again.'''
                        text = '''This is not a docstring but a template for users.'''
            """,
            "lamp/broken.py": '"""This file was written for another Python, and it still speaks."""\nprint "x"\n',
            "lamp/copy.py": '"""A bulb is what the light comes from."""\n',
            "lamp/tests/test_lamp.py": '"""This is a test of the lamp and of its bulb."""\n',
            "lamp/_vendor/other.py": '"""This is a copy of what others have written."""\n',
            "lamp/silent.py": "x = 1\n",
            "lamp/binary.py": "",
            "alone.py": '"""One module can be all that there is in a package."""\n',
            "lamp-1.0.dist-info/notes.py": '"""This is no module, as its name is not a name."""\n',
        },
    )


def test_modules_become_documents_in_the_order_of_their_names(packages):
    (packages / "lamp" / "binary.py").write_bytes(b"\xff\xfe\x00" * 9)
    documents = list(python_documentation(folders=[packages]))
    assert {document.name: document.paragraphs for document in documents} == {
        "alone": ["One module can be all that there is in a package."],
        "lamp": ["Light for dark rooms and for long evenings.", "All of it is made of glass, except what is not."],
        "lamp.broken": ["This file was written for another Python, and it still speaks."],
        "lamp.bulb": [
            "A bulb is what the light comes from.",
            "Shines for as long as there is any current.",
            "Turn the bulb on until it is turned off again.",
        ],
    }
    assert [document.name for document in documents] == ["alone", "lamp", "lamp.broken", "lamp.bulb"]


def test_so_many_modules_of_a_package_are_spread_over_it(tmp_path):
    for package, count in (("many", 20), ("few", 3)):
        (tmp_path / package).mkdir()
        for number in range(count):
            prose = f"Counts the {number} boats on the wide river and tells how many there are."
            (tmp_path / package / f"part{number:02}.py").write_text(f'"""{package.capitalize()}: {prose}"""\n')
    read = [document.name for document in python_documentation(folders=[tmp_path], per_package=4)]
    assert read == [*(f"few.part{number:02}" for number in range(3)), *(f"many.part{n:02}" for n in (4, 9, 14, 19))]


def test_no_time_means_no_documents(packages):
    assert list(python_documentation(folders=[packages], limit_seconds=0)) == []


def test_the_standard_library_is_one_package():
    assert package_of(Document([], "email.mime.text")) == package_of(Document([], "math")) == "python"
    assert package_of(Document([], "lamp.bulb")) == "lamp"


def test_this_python_has_much_to_say():
    documents = list(python_documentation(folders=[sysconfig.get_paths()["stdlib"]]))
    texts = [text for document in documents for text in document.paragraphs]
    assert len(texts) > 5_000
    assert len(texts) == len(set(texts))
    assert all(">>>" not in text and "\n" not in text and len(text.split()) >= 5 for text in texts)
    assert not any(document.name.startswith(("test", "idlelib", "this")) for document in documents)


def test_modules_in_c_are_documented_too(monkeypatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: dict.fromkeys(("stdlib", "purelib", "platlib"), "nowhere"))
    documents = {document.name: document.paragraphs for document in python_documentation()}
    assert {"builtins", "math", "itertools"} <= set(documents)
    assert any("string" in text for text in documents["builtins"])


NUMPYDOC = """
    Find the roots of a scalar function.

    The function should be continuous, and ``f(a)`` and ``f(b)`` should
    differ in sign; see :func:`~package.module.solve` or `other <https://x.org>`_ [1]_.

    Parameters
    ----------
    f : callable, optional
        The function whose root is wanted, of *one* argument.
    a, b : float
        The ends of the interval::

            a < b

        They should not be equal to each other.

        .. versionadded:: 1.2

    Returns
    -------
    float
        The root, or NaN when there is none.

    See Also
    --------
    solve : Solve a linear system of equations for its unknowns.

    Notes
    -----
    .. math:: x = y^2 of the given and the other

    - This is the first of all the points, and it
      goes on in a second line.
    - This is the second of the points.

    +-----+-----+
    | This is | a table of the two |

    References
    ----------
    .. [1] The one who wrote the book, "A book about the roots", 1973.

    Examples
    --------
    >>> solve(f)
    The output of the call is not part of the prose.

    This is what an example is for.
"""

GOOGLE = """Trains a model on the given data.

Args:
    model (nn.Module, optional): The model to be trained. It is changed
        in place by the training.
    steps: The number of steps that are to be taken.
    **options: int

Returns:
    The loss of the last step and of the one before.

Example::

    model = train(model, steps=3) for as long as it is not bad

```python
This is code although it is written in the words of a text.
```

Note: This is not how it is done by others.
"""

SPHINX = """
Send a message to the server.

:param text: The text of the message, as it is to be sent.
:type text: str or bytes or what can be made one of these
:returns: Whether the message has been sent to all.
:rtype: bool
"""


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (
            NUMPYDOC,
            [
                "Find the roots of a scalar function.",
                "The function should be continuous, and f(a) and f(b) should differ in sign; see solve or other.",
                "The function whose root is wanted, of one argument.",
                "The ends of the interval:",
                "They should not be equal to each other.",
                "The root, or NaN when there is none.",
                "This is the first of all the points, and it goes on in a second line.",
                "This is the second of the points.",
                "This is what an example is for.",
            ],
        ),
        (
            GOOGLE,
            [
                "Trains a model on the given data.",
                "The model to be trained. It is changed in place by the training.",
                "The number of steps that are to be taken.",
                "The loss of the last step and of the one before.",
                "This is not how it is done by others.",
            ],
        ),
        (
            SPHINX,
            [
                "Send a message to the server.",
                "The text of the message, as it is to be sent.",
                "Whether the message has been sent to all.",
            ],
        ),
    ],
)
def test_only_prose_is_kept_of_a_docstring(docstring, expected):
    assert paragraphs(docstring) == expected


@pytest.mark.parametrize(
    "docstring",
    [
        "S.find(sub[, start[, end]]) -> int",
        "Return x.",
        "width height depth length colour material",
        "x = y + z if a else b for the c in d",
        "Dies ist ein deutscher Satz, der nicht hierher passt.",
        "which is the rest of a sentence that was begun before.",
        "See https://example.org for the rest of it all.",
        "Это предложение на русском языке, и оно здесь не нужно.",
        "",
    ],
)
def test_what_is_not_an_english_sentence_is_left_out(docstring):
    assert paragraphs(docstring) == []
