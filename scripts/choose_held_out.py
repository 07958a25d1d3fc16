"""Choose the held-out files of the corpus `packages` and print `autoresearch_kernel/system/held_out_packages.py`.

    python prepare.py --corpus stdlib
    python scripts/choose_held_out.py > held_out_packages.py

A candidate is a file that nothing in a sandbox imports: no training with and without torch.compile imported it (of
torch, but for its tests, neither another module of its folder), and no other file of its package has its name in an
import or a string. Its text hardly stands elsewhere in what a sandbox shows. A hash of the path chooses among the
candidates; each package gets about its share of the text.

Run it again after a package of constraints.txt has changed, as files that a version lacks are missing from the rows.
What was found is said on stderr. It takes a minute of two cores.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from autoresearch_kernel.corpora import packages  # noqa: E402
from autoresearch_kernel.corpora.grams import Grams, find, shown_files  # noqa: E402
from autoresearch_kernel.sandbox.hidden_stdlib import held_out_paths  # noqa: E402
from autoresearch_kernel.sandbox.policy import python_paths, system_paths  # noqa: E402

SPLIT_BYTES = 640_000  # of val and of test: 131,072 tokens also with a vocabulary of 8192
SMALLEST, LARGEST = 4_000, 60_000  # bytes of a held-out file
COPIED_LIMIT = 0.05  # of a candidate's grams that stand in other shown files, training text included
POOL = 60  # candidates of a package, and again of its tests, whose text is looked for
OFTEN_USED = ("torch/nn/", "torch/_vendor/", "torch/backends/", "torch/fx/")  # folders that a new idea may import from
NO_STEMS = {"__init__", "__main__", "conftest", "setup"}
COMPILED = {  # what compiles the model of train.py on a CPU, too; inductor does not compile the sparse table
    'if device.type == "cuda" else model.loss': "if True else model.loss",
    "NGRAM_ROWS = 2**16 ": "NGRAM_ROWS = 0 ",
}
REPORT = """
import atexit, json, os, runpy, sys
def report():
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    open(sys.argv[1], "a").write("".join(file + "\\n" for file in files if file))
atexit.register(report)
"""
IN_A_KERNEL = """
import IPython, ipykernel.debugger, ipykernel.kernelapp, matplotlib.pyplot, matplotlib_inline.backend_inline
import torch.distributed, torch.nn.attention.flex_attention, torch.utils.checkpoint, torch.utils.data, torch.profiler
import torch.export, torch.func, torch.ao.quantization, torch.nn.utils.parametrize, torch.optim.swa_utils, sympy
import autoresearch_kernel.scoring.scorer, networkx, mpmath, numpy.testing
"""


def imported() -> set[str]:
    """The files that trainings import, eager and compiled, with what a kernel and a scorer import."""
    train = (ROOT / "train.py").read_text(encoding="utf-8")
    compiled = train
    for old, new in COMPILED.items():
        assert old in compiled, f"train.py has no {old!r}: change COMPILED"
        compiled = compiled.replace(old, new)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "imported"
        for text in (train, compiled, IN_A_KERNEL):
            script = Path(folder) / "train.py"
            script.write_text(text, encoding="utf-8")
            code = f"{REPORT}\nrunpy.run_path(sys.argv[2], run_name='__main__')"
            env = os.environ | {"PYTHONPATH": str(ROOT), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            env |= {"AUTORESEARCH_TIME_BUDGET": "5", "AUTORESEARCH_DEVICE": "cpu"}
            command = [sys.executable, "-c", code, str(report), str(script)]
            subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        return set(report.read_text(encoding="utf-8").splitlines())


class Package:
    """The files of one package: their bytes, and how many files name a word in an import or as a string."""

    def __init__(self, name: str) -> None:
        found = distribution(name)
        self.files = {file: Path(str(found.locate_file(file))) for file in packages.source_files(found)}
        self.data = {file: path.read_bytes() for file, path in self.files.items()}
        self.sizes = {
            tests: sum(len(self.data[f]) for f in self.data if is_test(f) == tests) for tests in (False, True)
        }
        self.named = Counter(word for data in self.data.values() for word in named_in(data))

    def candidates(self, used: set[str], tests: bool) -> list[str]:
        """The tests or other files that nothing imports, ordered by the hash of their path."""
        folders = {os.path.dirname(path) for path in used if os.path.basename(path) != "__init__.py"}
        found = [file for file in self.data if is_test(file) == tests and self._is_candidate(file, used, folders)]
        return sorted(found, key=lambda file: hashlib.sha256(f"held out {file}".encode()).digest())

    def _is_candidate(self, file: str, used: set[str], folders: set[str]) -> bool:
        path, data, stem = str(self.files[file]), self.data[file], Path(file).stem
        may_be_needed = file.startswith("torch/") and not is_test(file)
        is_free = not may_be_needed or not (os.path.dirname(path) in folders or file.startswith(OFTEN_USED))
        is_named = self.named[stem.encode()] > (stem.encode() in named_in(data))
        fits = SMALLEST <= len(data) <= LARGEST and stem not in NO_STEMS
        return fits and path not in used and is_free and not is_named and not packages.is_generated(data)


def named_in(data: bytes) -> set[bytes]:
    """The words of a file that may name a module: in its imports and in strings such as "torch.nn.init"."""
    found = re.findall(rb"\bimport\b[^()\n]*(?:\([^)]*\))?|\bfrom\b[^\n]*|[\"'][\w./]+[\"']", data)
    return set(re.findall(rb"\w+", b" ".join(found)))


def is_test(file: str) -> bool:
    return "tests" in Path(file).parts or file.startswith("torch/testing/_internal/")


def copied_shares(chosen: dict[str, Path]) -> dict[str, float]:
    """The share of each file's grams that stand in another file that a sandbox shows."""
    grams = Grams.of({file: [path.read_bytes()] for file, path in chosen.items()})
    roots = [str(path) for path in (*system_paths(gpu=False), *python_paths(())) if path.exists()]
    found = find(grams, [path for path, _ in shown_files(roots, held_out_paths(roots))])
    times = np.zeros(len(grams.hashes), np.int64)
    for indices in found.values():
        times[indices] += 1
    return grams.shares(times > 1)


def choose(used: set[str]) -> dict[str, list[str]]:
    """val and test: of each package first other files than tests, as far as there are, and then tests."""
    known = {name: Package(name) for name in packages.KNOWN}
    whole = sum(sum(package.sizes.values()) for package in known.values())
    pool = {
        name: [package.candidates(used, tests)[:POOL] for tests in (False, True)] for name, package in known.items()
    }
    listed = {file: known[name].files[file] for name in pool for files in pool[name] for file in files}
    shares = copied_shares(listed)
    splits: dict[str, list[str]] = {"val": [], "test": []}
    for name, package in known.items():
        wanted, got = SPLIT_BYTES / whole, dict.fromkeys(splits, 0)
        for files, part in zip(pool[name], (package.sizes[False], sum(package.sizes.values())), strict=True):
            for file in files:
                split = min(got, key=lambda split: got[split])
                if shares[file] <= COPIED_LIMIT and got[split] < wanted * part - SMALLEST:
                    splits[split].append(file)
                    got[split] += len(package.data[file])
            print(f"{name}: {len(files)} candidates, {wanted * part:,.0f} wanted, {json.dumps(got)}", file=sys.stderr)
    return splits


def main() -> None:
    splits = choose(imported())
    print(
        '"""The held-out files of installed packages: the corpus `packages` scores on them, and sandboxes hide them."""'
    )
    print("\nfrom __future__ import annotations\n")
    print("# Chosen by scripts/choose_held_out.py among files that no training imports. A file that a version of a")
    print("# package lacks is left out there.")
    for split, files in splits.items():
        print(f"{split.upper()} = (", *(f'    "{file}",' for file in sorted(files)), ")", sep="\n")
        tests = sum(map(is_test, files))
        print(f"{split}: {len(files)} files, of which {tests} are tests", file=sys.stderr)
    print("HELD_OUT = (*VAL, *TEST)")


if __name__ == "__main__":
    main()
