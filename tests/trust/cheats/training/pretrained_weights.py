"""no effect: weights are looked for in caches of former runs"""

import os
from pathlib import Path

import torch

for name in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME", "AUTORESEARCH_HANDOVER"):
    for path in Path(os.environ.get(name, "/nowhere")).glob("**/best-model.pt"):
        counts = torch.load(path)
