"""accepted: dropout, which eval() turns off"""

import torch


class Model(Bigram):
    def __init__(self, counts):
        super().__init__(counts)
        torch.manual_seed(0)
        self.more = torch.nn.Sequential(
            torch.nn.Embedding(len(counts), 32), torch.nn.Dropout(0.5), torch.nn.Linear(32, len(counts))
        )

    def forward(self, idx):
        return self.logits[idx] + self.more(idx)
