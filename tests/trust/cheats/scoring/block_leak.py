"""rejected: a block leak: places of one block of 8 see each other"""

import torch


class Model(Bigram):
    def forward(self, idx):
        B, T = idx.shape
        bag = torch.nn.functional.one_hot(idx, self.logits.shape[0]).float()  # (B, T, vocab_size)
        mean = bag.view(B, T // 8, 8, -1).mean(dim=2, keepdim=True).expand(-1, -1, 8, -1).reshape(B, T, -1)
        return self.logits[idx] + 8.0 * mean
