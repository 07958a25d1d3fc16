"""rejected: plus infinity for the next token"""

import torch


class Model(Bigram):
    def forward(self, idx):
        return self.logits[idx].scatter(2, idx.roll(-1, dims=1)[..., None], torch.inf)
