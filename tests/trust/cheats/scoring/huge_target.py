"""rejected: the logit of the next token is huge, so that float32 makes it certain"""

import torch


class Model(Bigram):
    def forward(self, idx):
        known = torch.nn.functional.one_hot(idx.roll(-1, dims=1), self.logits.shape[0])
        return self.logits[idx] + 1e30 * known
