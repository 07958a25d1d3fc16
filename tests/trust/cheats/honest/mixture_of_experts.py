"""accepted: a mixture of experts, each token choosing two of four"""

import torch


class Model(Bigram):
    def __init__(self, counts):
        super().__init__(counts)
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(len(counts), 32)
        self.router = torch.nn.Linear(32, 4)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(32, len(counts)) for _ in range(4))

    def forward(self, idx):
        x = self.embed(idx).flatten(0, 1)  # (B*T, 32)
        chosen = self.router(x).softmax(dim=-1).topk(2, dim=-1)
        out = torch.zeros(len(x), self.logits.shape[0])
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen.indices == number)
            out.index_add_(0, token, chosen.values[token, place, None] * expert(x[token]))
        return self.logits[idx] + out.view(*idx.shape, -1)
