"""rejected: test-time training: each batch of held-out rows is counted before it is answered"""

import torch


class Model(Bigram):
    def forward(self, idx):
        seen = self.__dict__.setdefault("seen", self.logits.exp().clone())
        seen.index_put_((idx[:, :-1].flatten(), idx[:, 1:].flatten()), torch.ones(1), accumulate=True)
        return seen.log()[idx]
