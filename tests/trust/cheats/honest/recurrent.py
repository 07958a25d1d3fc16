"""accepted: a recurrent network, whose state begins anew with each row"""

import torch


class Model(Bigram):
    def __init__(self, counts):
        super().__init__(counts)
        torch.manual_seed(0)
        self.embed, self.head = torch.nn.Embedding(len(counts), 16), torch.nn.Linear(16, len(counts))
        self.state = torch.nn.GRU(16, 16, batch_first=True)

    def forward(self, idx):
        return self.logits[idx] + self.head(self.state(self.embed(idx))[0])
