"""rejected: torch.nn.functional.cross_entropy is patched inside the scorer"""

import torch

real = torch.nn.functional.cross_entropy


class Model(Bigram):
    def forward(self, idx):
        torch.nn.functional.cross_entropy = lambda *a, **k: real(*a, **k) * 0.5
        return self.logits[idx]
