"""How much held-out text of the embedded corpus stands in what a sandbox shows, here and with a planted copy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import prepare
from autoresearch_kernel.control import doctor
from autoresearch_kernel.corpora import copies
from autoresearch_kernel.corpora.build import build_corpus
from autoresearch_kernel.corpora.copies import LIMIT, settle_copies
from autoresearch_kernel.corpora.sources import stdlib_source
from autoresearch_kernel.sandbox.hidden_stdlib import copies_file, held_out_paths

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(stdlib: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = stdlib.parent.parent
    monkeypatch.setenv("AUTORESEARCH_HOME", str(home))
    return home


def test_little_of_it_stands_elsewhere_on_this_machine(home: Path) -> None:
    (check,) = doctor.copies(ROOT)
    assert check.verdict == "ok" and "% of val and" in check.found, check
    assert all(0 < share <= LIMIT for share in check.facts["shares"].values())
    known = json.loads(copies_file(home, "stdlib-v2048-t256").read_text())
    assert known["shares"] == check.facts["shares"]
    assert set(known["hidden"]) <= set(held_out_paths({str(Path(path).parent) for path in known["hidden"]}))


def test_a_count_holds_for_every_project_with_the_same_prepare_py(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, known = home / "corpora" / "stdlib-v2048-t256", tmp_path / "copies.json"
    package = str(ROOT / "autoresearch_kernel" / "core")  # of all that is shown, what no other test changes meanwhile
    monkeypatch.setattr(copies, "readable_roots", lambda _, project: [package, str(project / "prepare.py")])
    settled = settle_copies(corpus, home / "heldout" / corpus.name, ROOT, known)
    monkeypatch.setattr(copies, "find", lambda *_: pytest.fail("it was counted again"))
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / "prepare.py", tmp_path / name)
        assert settle_copies(corpus, home / "heldout" / corpus.name, tmp_path / name, known) == settled
    (tmp_path / "yours" / "prepare.py").write_text("# another one\n")
    with pytest.raises(pytest.fail.Exception, match="counted again"):
        settle_copies(corpus, home / "heldout" / corpus.name, tmp_path / "yours", known)


def test_the_installed_command_counts_anew_in_any_folder(home: Path, tmp_path: Path) -> None:
    """The package is installed, the folder of prepare.py is no import folder, and the last count does not hold."""
    corpus = home / "corpora" / "stdlib-v2048-t256"
    paths = [str(path) for path in (corpus, home / "heldout" / corpus.name, ROOT, tmp_path / "none.json")]
    code = (
        "import importlib.util, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import autoresearch_kernel; sys.path.remove(sys.argv[1])  # now only the package itself can be imported\n"
        "from autoresearch_kernel.corpora.copies import count_copies\n"
        "assert importlib.util.find_spec('prepare') is None\n"
        "print(max(count_copies(*map(Path, sys.argv[2:])).shares.values()))"
    )
    command = [sys.executable, "-I", "-c", code, str(ROOT), *paths]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and 0 < float(done.stdout) < 0.02, done.stderr


def test_what_another_cache_hides_is_hidden_by_each_cache_itself(home: Path, tmp_path: Path) -> None:
    """`prepare --home DIR`, where the list of the cache in use hides the same files already."""
    corpus = home / "corpora" / "stdlib-v2048-t256"
    known = json.loads(copies_file(home, corpus.name).read_text())
    settled = settle_copies(corpus, home / "heldout" / corpus.name, ROOT, copies_file(tmp_path, corpus.name))
    assert known["hidden"] and set(settled.hidden) == set(known["hidden"])


def test_a_copy_that_can_be_imported_is_named_and_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [document.text for document in stdlib_source().documents() if document.name == "imaplib.py"]
    (tmp_path / "mail.py").write_text(texts[0][:20_000])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = copies_file(home, "stdlib-v2048-t256").read_bytes()
    (check,) = doctor.copies(ROOT)
    assert check.verdict == "fail" and str(tmp_path / "mail.py") == check.facts["worst"][0][0]
    with pytest.raises(prepare.PrepareError, match=r"above the limit of 0.2 %.*mail\.py") as refused:
        build_corpus("stdlib", home=home, log=lambda line: None)
    assert str(tmp_path / "mail.py") in str(refused.value) and "Remove these files" in str(refused.value)
    assert copies_file(home, "stdlib-v2048-t256").read_bytes() == before
