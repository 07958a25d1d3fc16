"""Fixed seeds in a train.py are found; seeds that are others in each run are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.source.seeds import fixed_seeds, seeds_itself

ROOT = Path(__file__).resolve().parents[2]
HEAD = '# %% tags=["parameters"]\nSEED = 1  # fixed\nDATA_SEED = 7\n\n# %%\n'

FIXED = [
    "torch.manual_seed(137)",
    "torch.random.manual_seed(3)",
    "torch.cuda.manual_seed_all(0)",
    "np.random.seed(1)",
    "import random\nrandom.seed(0)",
    "import random as r\nr.seed(3)",
    "from random import seed\nseed(3)",
    "import numpy.random as npr\nnpr.seed(3)",
    "torch.Generator().manual_seed(1)",
    "g = torch.Generator()\ng.manual_seed(2147483647)",
    "rng = np.random.default_rng(0)",
    "r = random.Random(5)",
    "seed = 1337\ntorch.manual_seed(seed)",
    "torch.manual_seed(seed := 5)",
    "torch.manual_seed(1337 + 5)",
    "torch.manual_seed(DATA_SEED)",
    "SEED = 137\ntorch.manual_seed(SEED)",
    "def set_all(s):\n    torch.manual_seed(s)\nset_all(42)",
    "def fix(seed=42):\n    torch.manual_seed(seed)\nfix()",
    "class Config:\n    seed: int = 3\ntorch.manual_seed(Config.seed)",
    "config = {'seed': 1}\ntorch.manual_seed(config['seed'])",
    "p.add_argument('--seed', type=int, default=42)\ntorch.manual_seed(p.parse_args().seed)",
    "make_dataloader(tokenizer, 8, 64, 'train', seed=0)",
]
FREE = [
    "torch.manual_seed(SEED)",
    "torch.manual_seed(SEED + 1)",
    "seed = SEED * 2\ntorch.manual_seed(seed)",
    "seed = 3\nseed = SEED\ntorch.manual_seed(seed)",
    "torch.manual_seed(int(time.time()))",
    "random.seed()",
    "np.random.default_rng()",
    "g.manual_seed(int(torch.randint(0, 10, (1,))))",
    "def f(seed):\n    torch.manual_seed(seed)\nf(SEED)",
    "make_dataloader(tokenizer, 8, 64, 'train', seed=SEED)",
    "class Plant:\n    def seed(self, n): ...\nPlant().seed(3)",
    "def broken(:",
]


@pytest.mark.parametrize("code", FIXED)
def test_a_seed_from_constants_alone_is_found(code: str) -> None:
    assert fixed_seeds(HEAD + code)


@pytest.mark.parametrize("code", FREE)
def test_a_seed_that_is_another_in_each_run_is_none(code: str) -> None:
    assert not fixed_seeds(HEAD + code) and not seeds_itself(HEAD + code)


def test_the_note_names_the_first_line_and_counts_the_others() -> None:
    assert seeds_itself(HEAD + "torch.manual_seed(137)\nnp.random.seed(1)") == (
        "it seeds itself in line 6 (torch.manual_seed(137)) and 1 more, so its confirmations are not fresh: "
        "use SEED there"
    )
    assert not seeds_itself((ROOT / "train.py").read_text(encoding="utf-8"))
