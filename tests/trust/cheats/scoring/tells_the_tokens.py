"""rejected: held-out tokens are put into an exception, for the agent to read among the reasons"""


class Model(Bigram):
    def forward(self, idx):
        raise ValueError(f"expected logits for {idx.flatten().tolist()}")
