"""Small files are there whole, on systems that open no folders too."""

import os
from pathlib import Path

import pytest

from bothways import whole


@pytest.fixture
def like_windows(monkeypatch):
    """Folders that cannot be opened, as on Windows."""
    opened = os.open

    def refusing(path, *more):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *more)

    monkeypatch.setattr(os, "open", refusing)


@pytest.mark.usefixtures("like_windows")
def test_a_file_is_written_where_folders_cannot_be_opened(tmp_path):
    whole.replace_text(tmp_path / "state.json", "old")
    whole.replace_text(tmp_path / "state.json", "new")
    assert (tmp_path / "state.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_file_that_may_not_be_opened_is_told(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")

    def refusing(path, *more):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(PermissionError):
        whole.sync(tmp_path / "a")
