"""no effect: "probabilities" that add up to far more than one: every logit is raised"""


class Model(Bigram):
    def forward(self, idx):
        return self.logits[idx] + 7.0
