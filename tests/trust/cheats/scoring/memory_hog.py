"""rejected: a model that takes all memory"""

import time

import torch


class Model(Bigram):
    def forward(self, idx):
        taken = []
        for _ in range(40):
            taken.append(torch.ones(2**23))  # 32 MiB
            time.sleep(0.01)
        time.sleep(60)
        return self.logits[idx]
