"""rejected: another number of evaluated tokens: only the second half of each row is answered"""


class Model(Bigram):
    def forward(self, idx):
        return self.logits[idx][:, idx.shape[1] // 2 :]
