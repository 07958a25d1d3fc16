"""no effect: answers are written to file descriptor 1 and 2"""

import os


class Model(Bigram):
    def forward(self, idx):
        for fd in (1, 2):
            os.write(fd, bytes(4 * idx.numel()))
        return self.logits[idx]
