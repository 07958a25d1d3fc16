"""rejected: it carries training text with it and goes on learning from that for a little while in each batch"""

import time


class Model(Bigram):
    def __init__(self, counts):
        super().__init__(counts)
        self.text = torch.multinomial(counts.flatten(), 4096, replacement=True)  # pairs of tokens

    @torch.inference_mode(False)
    @torch.enable_grad()
    def forward(self, idx):
        began, size = time.monotonic(), len(self.logits)
        logits = self.logits.detach().clone().requires_grad_()
        while time.monotonic() - began < 0.3:
            loss = torch.nn.functional.cross_entropy(logits[self.text // size], self.text % size)
            (gradient,) = torch.autograd.grad(loss, logits)
            logits = (logits - 0.01 * gradient).detach().requires_grad_()
        self.logits = torch.nn.Parameter(logits.detach())
        return self.logits[idx]
