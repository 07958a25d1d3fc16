"""rejected: row i reads row i + 1 of the batch"""

import torch


class Model(Bigram):
    def forward(self, idx):
        other = torch.nn.functional.one_hot(idx.roll(-1, dims=0), self.logits.shape[0]).float().sum(dim=1, keepdim=True)
        return self.logits[idx] + other.log1p()
