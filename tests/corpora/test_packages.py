"""The corpus of installed packages: which text it has, and that other files or versions are named."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import prepare
from autoresearch_kernel.corpora import packages
from autoresearch_kernel.corpora.build import _build, _Plan
from autoresearch_kernel.corpora.copies import LIMIT, settle_copies
from autoresearch_kernel.corpora.packages import Known, is_generated, packages_source, source_files, split_of_file
from autoresearch_kernel.corpora.sources import Document
from autoresearch_kernel.sandbox.hidden_stdlib import copies_file, held_out_paths
from autoresearch_kernel.system.held_out_packages import HELD_OUT, TEST, VAL
from prepare import PrepareError

ROOT = Path(__file__).parents[2]
CODE = "".join(
    f"def add_{n}(first, second):\n    return first + second * factor_of_{n}  # in words\n" for n in range(40)
)


def install(folder: Path, name: str, version: str, files: dict[str, str], with_record: bool = True) -> Known:
    """An installed package as pip leaves it; what defines a corpus of it."""
    info = f"{name}-{version}.dist-info"
    for path, text in {**files, f"{info}/METADATA": f"Name: {name}\nVersion: {version}\n"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode())
    if with_record:
        listed = [*files, f"{info}/METADATA", "../../bin/tool.py", f"{info}/x.py"]
        (folder / info / "RECORD").write_text("".join(f"{path},,\n" for path in reversed(listed)))
    lines = [f"{path} {hashlib.sha256(files[path].encode()).hexdigest()}\n" for path in sorted(files)]
    return Known(version, hashlib.sha256("".join(lines).encode()).hexdigest(), "MIT")


def read(folder: Path, known: dict[str, Known]) -> tuple[list[Document], list[str]]:
    lines: list[str] = []
    source = packages_source(lines.append, known, [str(folder)])
    documents = list(source.documents())
    assert list(source.documents()) == documents
    return documents, lines


def modules(count: int = 30) -> dict[str, str]:
    return {f"ones/module{n}.py": f"# Module {n}\n" + CODE.replace("add", f"add{n}") for n in range(count)}


# ---------------------------------------------------------------- the packages of this environment


def test_the_versions_that_define_the_corpus_are_those_of_the_constraints() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==([^ ;\n]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {name: known.version for name, known in packages.KNOWN.items()} == {
        name: pinned[name] for name in packages.KNOWN
    }


def test_the_documents_of_this_environment_are_those_of_every_installation_with_its_versions() -> None:
    lines: list[str] = []
    source = packages_source(lines.append)
    if source.options != {name: known.version for name, known in packages.KNOWN.items()}:
        pytest.skip("this environment has other versions than constraints.txt")
    sizes = dict.fromkeys(("train", "dev", "val", "test"), 0)
    names, digest = [], hashlib.sha256()
    for document in source.documents():
        sizes[document.split] += len(document.text.encode())
        names.append(document.name)
        digest.update(f"{document.split} {document.name} {document.text}\n".encode())
    (left_out,) = lines  # and no package differs
    assert left_out.startswith("  Left out of 103.4 MB in 5,382 files: 11.8 MB, of which")
    assert digest.hexdigest().startswith("c0ac2eb0a036ba9c")
    assert sizes["train"] > 88e6 and sizes["dev"] > 1e6 and min(sizes["val"], sizes["test"]) > 450_000
    assert set(HELD_OUT) <= set(names)
    assert names != sorted(names) and len(set(names)) == len(names)
    assert not {"torch/version.py", "numpy/__config__.py"} & set(names)  # differ between builds of one version
    assert "torch/nn/modules/linear.py" in names and "torch/masked/_docs.py" not in names


def test_a_held_out_file_is_in_one_split_alone_and_hidden_with_its_compiled_files() -> None:
    assert len(VAL) + len(TEST) == len(set(HELD_OUT)) == len(HELD_OUT)
    assert split_of_file(VAL[0]) == "val" and split_of_file(TEST[0]) == "test"
    root = next(folder for folder in map(Path, prepare.torch.__path__)).parent
    hidden = {Path(path) for path in held_out_paths([str(root)])}
    assert root not in hidden
    for name in HELD_OUT:
        path = root / name
        for file in (path, *path.parent.glob(f"__pycache__/{path.stem}.*.pyc")):
            assert hidden & {file, *file.parents}, file  # tests of a package are hidden as one folder


# ---------------------------------------------------------------- small packages


def test_the_order_of_documents_rests_on_their_names_and_not_on_the_list_of_files(tmp_path: Path) -> None:
    files = modules()
    known = {"ones": install(tmp_path / "a", "ones", "1.0", files)}
    install(tmp_path / "b", "ones", "1.0+cpu", dict(reversed(files.items())))
    documents, lines = read(tmp_path / "a", known)
    assert read(tmp_path / "b", known)[0] == documents
    assert {document.name: document.text for document in documents} == files
    assert [document.name for document in documents] == sorted(
        files, key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    assert len(lines) == 1 and lines[0].startswith("  Left out of ")


def test_another_version_or_a_changed_file_is_another_corpus_that_says_which_package(tmp_path: Path) -> None:
    known = {name: install(tmp_path, name, "1.0", {f"{name}/a.py": f"# {name}\n{CODE}"}) for name in ("ones", "twos")}
    known["ones"] = Known("1.1", "0" * 64, "MIT")
    (tmp_path / "twos" / "a.py").write_text(CODE + "changed = True\n")
    _, (words, _) = read(tmp_path, known)
    assert "ones is 1.0, not 1.1; files of twos 1.0 are not those of its wheel." in words
    assert words.endswith("pip install ones==1.1 twos==1.0") and "cannot be compared" in words


def test_a_package_that_is_missing_or_has_no_list_of_files_is_one_clear_error(tmp_path: Path) -> None:
    known = {"ones": install(tmp_path, "ones", "1.0", modules(), with_record=False)}
    with pytest.raises(PrepareError, match=r"installation of ones 1.0 has no list of its files .*--no-deps ones==1.0"):
        read(tmp_path, known)
    with pytest.raises(PrepareError, match=r"needs twos 2.0, which this Python does not have.*pip install twos==2.0"):
        packages_source(print, {"twos": Known("2.0", "", "MIT")}, [str(tmp_path)])


def test_generated_text_is_left_out_and_long_files_are_cut_at_a_line(tmp_path: Path) -> None:
    long = "".join(f"def function_{'abcdefghij'[n % 10]}{n}(value): return value\n" for n in range(6000))
    files = {
        "ones/code.py": CODE,
        "ones/copy.py": CODE,
        "ones/empty.py": "\n",
        "ones/long.py": long,
        "ones/marked.py": f"# @generated by a tool\n{CODE}",
        "ones/numbers.py": "TABLE = [\n" + "".join(f"    {n * 0.37:.6f},\n" for n in range(500)) + "]\n",
        "ones/repeats.py": "case_of_a_long_line = check(first, second)\n" * 50 + CODE[:500],
    }
    documents, (words,) = read(tmp_path, {"ones": install(tmp_path, "ones", "1.0", files)})
    texts = {document.name: document.text for document in documents}
    assert set(texts) == {"ones/code.py", "ones/long.py"}
    assert long.startswith(texts["ones/long.py"]) and texts["ones/long.py"].endswith("return value\n")
    assert packages.LONGEST - 80 < len(texts["ones/long.py"]) <= packages.LONGEST
    assert "are 3 generated files and" in words
    assert not is_generated(b"# The group that is generated by a and b\n" + CODE.encode())


def test_only_python_files_inside_the_import_folder_are_read(tmp_path: Path) -> None:
    install(tmp_path, "ones", "1.0", modules(2) | {"ones/data.json": "{}", "torch/version.py": CODE})
    (found,) = packages.distributions(name="ones", path=[str(tmp_path)])
    assert source_files(found) == ["ones/module0.py", "ones/module1.py"]


# ---------------------------------------------------------------- copies of held-out text


def test_copies_of_held_out_text_are_counted_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small package has files under the names of held-out ones, so it has all four splits."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    held = {VAL[0]: CODE.replace("add", "vanish"), TEST[0]: CODE.replace("add", "taste")}
    known = {"ones": install(tmp_path / "site", "ones", "1.0", modules(200) | held)}
    home = tmp_path / "home"
    plan = _Plan(
        packages_source(lambda line: None, known, [str(tmp_path / "site")]),
        home / "corpora" / "packages-v300-t32", home / "heldout" / "packages-v300-t32", 300, 32, 2**10, "",
    )  # fmt: skip
    _build(plan, lambda line: None)
    counted = json.loads(copies_file(home, plan.folder.name).read_text())
    assert counted["shares"] == {"val": 0.0, "test": 0.0}
    assert np.load(plan.heldout / "val.npy").shape == (32, 33)
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "quotes.py").write_text(held[VAL[0]])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shown"))
    monkeypatch.syspath_prepend(str(tmp_path / "shown"))
    copies = settle_copies(plan.folder, plan.heldout, ROOT, copies_file(home, plan.folder.name))
    assert copies.shares["val"] > LIMIT and copies.is_too_much
    assert copies.worst[0][0] == str(tmp_path / "shown" / "quotes.py")
