"""rejected: attention that is not causal: each place sees the token after it"""

import torch


class Model(Bigram):
    def forward(self, idx):
        known = torch.nn.functional.one_hot(idx.roll(-1, dims=1), self.logits.shape[0])
        return self.logits[idx] + 4.0 * known
