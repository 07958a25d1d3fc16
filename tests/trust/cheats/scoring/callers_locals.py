"""rejected: the targets are read from the caller's local variables, with sys._getframe"""

import sys

import torch


class Model(Bigram):
    def forward(self, idx):
        logits, frame = self.logits[idx], sys._getframe()
        while frame is not None:
            found = frame.f_locals.get("batch")
            if isinstance(found, torch.Tensor) and found.shape[1] == idx.shape[1] + 1:
                return logits + 10.0 * torch.nn.functional.one_hot(found[:, 1:], logits.shape[-1])
            frame = frame.f_back
        return logits
