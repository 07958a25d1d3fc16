# %% [markdown]
# # A small train.py
# The model looks at two tokens and says which one comes next. Lessons 4 to 6 train it in seconds.

# %% tags=["parameters"]
SEED = 1  # fixed: the supervisor injects it
WIDTH = 64  # numbers for each token; {16, 32, 64, 128}
LEARNING_RATE = 0.1  # of Adagrad; 0.005..1.0 log
BATCH_ROWS = 16  # rows in one step; {4, 8, 16, 32, 64}

# %%
from prepare import MAX_SEQ_LEN, Tokenizer, TrainingClock, evaluate_bpb, get_device, make_dataloader

# isort: split
import torch
import torch.nn.functional as F

# %%
torch.manual_seed(SEED)
device = get_device()
tokenizer = Tokenizer.from_directory()
vocab_size = tokenizer.get_vocab_size()


# %%
class TwoTokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Embedding(vocab_size, WIDTH)
        self.before = torch.nn.Embedding(vocab_size, WIDTH)
        self.head = torch.nn.Linear(WIDTH, vocab_size)

    def forward(self, idx):
        before = F.pad(idx[:, :-1], (1, 0))  # (B, T): the token before the last one
        hidden = torch.relu(self.last(idx) + self.before(before))  # (B, T, WIDTH)
        logits = self.head(hidden)  # (B, T, vocab_size)
        return logits


# %%
model = TwoTokens().to(device)
batches = make_dataloader(tokenizer, BATCH_ROWS, MAX_SEQ_LEN, "train", device, seed=SEED)
squares = [torch.zeros_like(p) for p in model.parameters()]


# %%
def train_step():
    x, y, _ = next(batches)
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p, square in zip(model.parameters(), squares, strict=True):
            square += p.grad**2
            p -= LEARNING_RATE * p.grad / (square.sqrt() + 1e-8)
    return float(loss.detach())


# %%
clock = TrainingClock()
while clock.running():
    clock.report(train_loss=train_step())

# %%
val_bpb = evaluate_bpb(model, tokenizer, BATCH_ROWS)
