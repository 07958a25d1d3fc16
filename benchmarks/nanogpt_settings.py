"""A train.py: the GPT of textbooks at the settings that nanoGPT's README gives for a CPU, on this project's corpora.

    python benchmarks/training.py --train benchmarks/nanogpt_settings.py --budgets 30,60 --corpus stdlib

Written anew for this comparison; only the settings are nanoGPT's (https://github.com/karpathy/nanoGPT): 4 blocks, 4
heads, 128 wide, context 64, 12 rows a step, AdamW at 1e-3 with 100 steps of warm-up and a cosine down to 1e-4, float32.
The decay follows the clock, so that it ends with the budget, which its own number of steps would not. A row of the
corpus is read in pieces of 64 tokens, as the context is no longer than that.
"""

# %%
import math

from prepare import MAX_SEQ_LEN, Tokenizer, TrainingClock, evaluate_bpb, get_device, make_dataloader

# isort: split
import torch
import torch.nn as nn
import torch.nn.functional as F

# %% tags=["parameters"]
SEED = 42  # fixed: the harness injects it
DEPTH = 4  # blocks; 1..12
HEADS = 4  # attention heads; 1..12
WIDTH = 128  # of the residual stream; 64..768
BLOCK = 64  # tokens of context; 32..256
ROWS = 12  # in a step; 1..128
LR = 1e-3  # highest rate; 0.0001..0.01 log
FINAL = 0.1  # share of the rate that is left at the end; 0.0..1.0
WARMUP_STEPS = 100  # steps; 0..1000
BETA2 = 0.99  # memory of AdamW's variance; 0.9..0.999
DECAY = 0.1  # of the matrices; 0.0..0.5
CLIP = 1.0  # largest norm of the gradient; 0.1..10.0


# %%
class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm."""

    def __init__(self):
        super().__init__()
        self.before_attention, self.before_mlp = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, tokens, _ = x.shape
        q, k, v = self.qkv(self.before_attention(x)).view(rows, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (rows, HEADS, tokens, WIDTH / HEADS)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, tokens, WIDTH))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, vocab_size); pieces of BLOCK tokens are read one by one."""

    def __init__(self, vocab_size: int):
        super().__init__()
        self.embedding, self.position = nn.Embedding(vocab_size, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(DEPTH)), nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * DEPTH) if into_stream else 0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        rows, length = tokens.shape
        padded = F.pad(tokens, (0, -length % BLOCK)).view(-1, BLOCK)
        x = self.embedding(padded) + self.position.weight
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight).view(rows, -1, self.embedding.num_embeddings)[:, :length]


# %%
torch.manual_seed(SEED)
device, tokenizer = get_device(), Tokenizer.from_directory()
model = GPT(tokenizer.get_vocab_size()).to(device)
matrices = [p for p in model.parameters() if p.ndim == 2]
scales = [p for p in model.parameters() if p.ndim == 1]
optimizer = torch.optim.AdamW(
    [{"params": matrices, "weight_decay": DECAY}, {"params": scales, "weight_decay": 0.0}], lr=LR, betas=(0.9, BETA2)
)
batches = make_dataloader(tokenizer, ROWS, min(BLOCK, MAX_SEQ_LEN), "train", device, SEED)
print(f"{ROWS * BLOCK:,} tokens a step")
x, y, epoch = next(batches)
F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()  # one pass that teaches nothing, outside the budget

# %%
clock = TrainingClock()
while clock.running():
    rate = FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * min(1.0, clock.progress)))
    for group in optimizer.param_groups:
        group["lr"] = LR * rate * min(1.0, (clock.step + 1) / max(1, WARMUP_STEPS))
    optimizer.zero_grad()
    train_loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    train_loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    x, y, epoch = next(batches)
    clock.report(train_loss=float(train_loss.detach()), epoch=epoch)

# %%
val_bpb = evaluate_bpb(model, tokenizer, ROWS)
