"""no effect: no probability for BOS and its like, which are never scored"""

import torch


class Model(Bigram):
    def forward(self, idx):
        logits = self.logits[idx].clone()
        logits[..., SPECIAL_IDS] = -torch.inf
        return logits
