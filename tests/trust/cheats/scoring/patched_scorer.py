"""rejected: the scorer's own functions are replaced in its process"""

import sys

import torch


class Model(Bigram):
    def forward(self, idx):
        scorer = sys.modules["__main__"]
        scorer.negative_log_likelihood = lambda logits, y, ids: torch.full(y.shape, 0.5)
        return self.logits[idx]
