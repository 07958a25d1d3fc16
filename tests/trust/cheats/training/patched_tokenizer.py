"""no effect: tokenizer and token_bytes say that every token is a hundred bytes long"""

import numpy as np

import prepare

tokenizer.token_bytes = np.full(vocab_size, 100)
prepare.Tokenizer.get_bos_token_id = lambda self: 5
