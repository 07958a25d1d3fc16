"""rejected: logits for more tokens than there are, where the rest of the probability could hide"""

import torch


class Model(Bigram):
    def forward(self, idx):
        return torch.nn.functional.pad(self.logits[idx], (0, 64), value=-9.0)
