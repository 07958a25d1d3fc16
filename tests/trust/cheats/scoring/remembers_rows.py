"""rejected: state is kept between two forwards: what earlier rows held is likely in later ones"""

import torch


class Model(Bigram):
    def forward(self, idx):
        seen = self.__dict__.setdefault("seen", torch.ones(self.logits.shape[0]))
        logits = self.logits[idx] + 0.3 * (seen / seen.sum()).log()
        seen += torch.bincount(idx.flatten(), minlength=len(seen))
        return logits
