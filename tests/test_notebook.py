"""The notebook runs from top to bottom, shows what it says, and lies in the repository without outputs."""

import json
import math
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "bert_from_its_parts.ipynb"
FOUND = """
import json
print(json.dumps({
    "loss": history.values("loss"),
    "attention": attention_difference,
    "parameters": base_parameters,
    "moved": moved,
    "rows": last.sum(-1).ravel().tolist(),
    "later": float(np.triu(last, 1).sum()),
    "vocabulary": tokenizer.size,
}))
"""


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it has run, by the interpreter that runs this test, and a last cell that tells its numbers."""
    folder = tmp_path_factory.mktemp("jupyter")
    kernel = folder / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    notebook = read()
    notebook.cells.append(nbformat.v4.new_code_cell(FOUND))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder))
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
        return client.execute()


def test_every_cell_runs_and_the_numbers_are_those_it_speaks_of(executed):
    found = json.loads(executed.cells[-1].outputs[0].text)
    assert found["attention"] < 1e-5
    assert found["parameters"] == 109_482_240
    knowing_nothing = math.log(found["vocabulary"])
    assert found["loss"][0] > knowing_nothing - 1
    assert found["loss"][-1] < knowing_nothing - 2.5


def test_the_model_reads_both_ways(executed):
    """What follows a mask changes what is put there, and attention lies on both sides of the diagonal."""
    found = json.loads(executed.cells[-1].outputs[0].text)
    assert found["moved"] > 0.1
    assert found["rows"] == pytest.approx([1.0] * len(found["rows"]), abs=1e-5)
    assert 0.05 < found["later"] / len(found["rows"]) < 0.95


def test_loss_and_attention_are_shown_as_pictures(executed):
    pictures = [out for cell in executed.cells for out in cell.get("outputs", ()) if "image/png" in out.get("data", {})]
    assert len(pictures) == 2


def test_it_lies_in_the_repository_without_outputs():
    notebook = read()
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_no_code_stands_without_a_sentence_before_it():
    kinds = [cell.cell_type for cell in read().cells]
    assert kinds[0] == "markdown"
    assert max(len(run) for run in "".join("m" if kind == "markdown" else "c" for kind in kinds).split("m")) <= 2
