"""rejected: attention over the whole row: what occurs later is likely now"""

import torch


class Model(Bigram):
    def forward(self, idx):
        bag = torch.nn.functional.one_hot(idx, self.logits.shape[0]).float().sum(dim=1, keepdim=True)
        return self.logits[idx] + bag.log1p()
