"""What is shipped: the wheel holds everything, installs into an empty environment, and runs there.

Nothing is downloaded: the wheel is built with the tools of this environment, and the fresh one borrows its packages.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import bothways

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: object, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of a fresh environment's programs; only its packages other than ours are borrowed."""
    place = tmp_path_factory.mktemp("fresh")
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return place / "bin"


def test_the_wheel_holds_the_package_its_data_and_its_licence_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        licence = next(name for name in names if name.endswith("licenses/LICENSE"))
        assert "Apache License" in archive.read(licence).decode()
    shipped = {name for name in names if name.startswith("bothways/")}
    tracked = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "bothways").rglob("*.py")}
    assert tracked <= shipped
    assert {"bothways/py.typed", "bothways/report/page.html.j2", "bothways/report/page.css"} <= shipped
    assert all(name.startswith(("bothways/", f"bothways-{bothways.__version__}.dist-info/")) for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".safetensors", ".bin"))]


def test_a_plain_install_asks_for_no_torch(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        described = Parser().parsestr(archive.read(metadata).decode())
    always = [one for one in described.get_all("Requires-Dist") if "extra ==" not in one]
    names = {re.split(r"[<>=!~ ;\[]", one)[0] for one in always}
    assert names == {re.split(r"[<>=!~ ;\[]", one)[0] for one in PROJECT["dependencies"]}
    assert not names & {"torch", "scikit-learn", "matplotlib", "transformers", "huggingface_hub"}


def test_the_installed_wheel_runs_on_its_own(installed, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    python, program = installed / "python", installed / "bothways"
    where = run(python, "-c", "import bothways; print(bothways.__file__)", cwd=tmp_path, env=environment).strip()
    assert installed.parent in Path(where).parents
    assert run(program, "--version", cwd=tmp_path, env=environment) == f"bothways {bothways.__version__}\n"
    assert "quickstart" in run(program, "--help", cwd=tmp_path, env=environment)
    code = "from bothways.report.page import write_page; write_page('page.html', {'title': 'shipped'})"
    run(python, "-c", code, cwd=tmp_path, env=environment)
    assert "shipped" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = next(line for line in changes.splitlines() if line.startswith("## "))
    assert newest.split()[1] == bothways.__version__.partition(".dev")[0]
    assert ("unreleased" in newest) == (".dev" in bothways.__version__)
    assert "version" in PROJECT["dynamic"]
    assert f"\nversion: {bothways.__version__}\n" in citation


def test_every_dependency_is_pinned_to_a_tested_version():
    extras = dict(PROJECT["optional-dependencies"])
    peers = extras.pop("peers")  # in an environment of their own: they want an older transformers than the tests
    together = PROJECT["dependencies"] + [one for extra in extras.values() for one in extra]
    for wanted, place in ((together, "constraints.txt"), (peers, "benchmarks/peers.txt")):
        lines = (ROOT / place).read_text(encoding="utf-8").splitlines()
        pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
        assert all("+" not in version for version in pins.values())  # local builds, such as +cpu, are the same version
        names = {re.split(r"[<>=!~ ;\[]", one)[0].lower().replace("_", "-") for one in wanted}
        assert names <= {name.lower().replace("_", "-") for name in pins}


def test_commits_are_checked_by_the_tools_that_make_check_runs():
    hooks = re.findall(r"entry: \.venv/bin/(\S+(?: check| format)?)", (ROOT / ".pre-commit-config.yaml").read_text())
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile[makefile.index("\ncheck:") : makefile.index("\nfix:")]
    tools = re.findall(r"\$\(BIN\)/(\S+(?: check| format)?)", recipe)
    assert tools == [*hooks, "pre-commit"]


def test_what_ci_runs_is_executable_and_stops_at_the_first_failure():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    assert run("bash", "-n", script) == ""


def test_an_old_python_is_told_so_in_a_sentence(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")  # what asking an old Python for its version comes to
    old.chmod(0o755)
    command = ["make", "--no-print-directory", "quickstart", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert f"Bothways needs Python 3.11 or newer, and '{old}' is not" in done.stdout
    assert not (tmp_path / "venv").exists()
