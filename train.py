# %% [markdown]
# # train.py: a small GPT, trained against the clock
#
# This is the one file the agent edits, and it is a notebook: open it in JupyterLab and run it cell by cell, or run
# `python train.py`. Everything between the parameters and the last line may change, as long as the model maps token
# ids `(B, T)` to logits `(B, T, vocab_size)` and the last cell hands it to `evaluate_bpb`.
#
# The budget is time, so a change that makes a step faster is worth as much as one that makes it smarter.
#
# A course explains the sections: begin with [lesson 1](notebooks/lessons/1-bits-per-byte.ipynb).

# %% tags=["parameters"]
SEED = 42  # fixed: the harness injects it, so that a second run is a second sample
PRESET = "auto"  # fixed: by hand, sizes for this machine and budget replace the sizes below; "none" keeps them

# The model
DEPTH = 1  # transformer blocks; 1..12
MODEL_DIM = 128  # width of the residual stream; {64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768}
NUM_HEADS = 2  # attention heads in each block; {1, 2, 3, 4, 5, 6, 8, 12}
HEAD_DIM = 64  # width of one head; {16, 32, 64, 128}
MLP_RATIO = 2  # hidden width of the MLP, in model widths; 1..8
NGRAM_ROWS = 2**16  # rows of the hashed table of token pairs and triples, 0 for none; {0, 2**12, 2**14, 2**16, 2**18}
TOKEN_SHIFT = True  # the key of a token is made from the token before
VALUE_EMBEDDINGS = True  # every second block looks up further values by the token itself
DROPOUT = 0.0  # share of the numbers between blocks that training drops, where text repeats; 0.0..0.5
SOFTCAP = 15.0  # logits are squeezed into plus or minus this; 5.0..50.0 log

# The batch
SEQUENCE_LENGTH = 256  # tokens in a row, at most the corpus' own length; {64, 128, 256, 512, 1024, 2048}
DEVICE_BATCH_SIZE = 8  # rows in one forward pass, at most; {1, 2, 4, 8, 16, 32, 64, 128}
TOTAL_BATCH_SIZE = 2**10  # tokens between two updates; 2**9..2**20

# The optimizers
MUON = True  # Muon for the matrices inside the blocks; without it AdamW, as in the textbook
MATRIX_LR = 0.015  # Muon or AdamW, for the matrices inside the blocks; 0.002..0.2 log
EMBEDDING_LR = 0.4  # Adam, for the embedding tables; 0.001..2.0 log
NGRAM_LR = 0.8  # Adagrad, for the n-gram table; 0.05..5.0 log
HEAD_LR = 0.01  # Adam, for the output matrix; 0.0005..0.1 log
SCALAR_LR = 0.01  # Adam, for the mixing weights and gates; 0.0005..0.1 log
ADAM_BETA1 = 0.8  # memory of Adam's mean; 0.5..0.95
ADAM_BETA2 = 0.95  # memory of Adam's variance; 0.8..0.999
MUON_MOMENTUM = 0.95  # memory of Muon's mean; 0.7..0.99
WEIGHT_DECAY = 0.0  # pull of the block matrices to zero, times their learning rate; 0.0..0.5

# The schedule, in fractions of the budget
WARMUP = 0.02  # the learning rate rises; 0.0..0.3
WARMDOWN = 0.6  # the learning rate falls; 0.0..1.0
FINAL_LR = 0.02  # what is left of the learning rate at the end; 0.0..0.5

# %% [markdown]
# ## Device
# prepare.py finds the fastest device and says which number format it multiplies well: bf16 on recent hardware,
# float32 elsewhere. Everything below is the same on CUDA, ROCm, Apple and CPU.
#
# A study has written the sizes of its preset into the cell above, with `PRESET = "none"`. Where a user runs this file,
# `preset_parameters` gives the sizes that a study on this machine would have, and prints what it replaces.
#
# Why sizes fit a machine and a budget: [lesson 2](notebooks/lessons/2-one-experiment.ipynb).

# %%
import math

from prepare import MAX_SEQ_LEN, Tokenizer, TrainingClock, autocast, autocast_dtype, evaluate_bpb
from prepare import get_device, make_dataloader, preset_parameters  # first: it sets how threads wait for work

# isort: split
import torch
import torch.nn as nn
import torch.nn.functional as F

# %%
globals().update(preset_parameters(PRESET, globals()))

# %%
torch.manual_seed(SEED)
torch.set_float32_matmul_precision("high")
torch.set_flush_denormal(True)  # numbers near 1e-40 would slow a CPU down a hundredfold
device = get_device()
dtype = autocast_dtype(device)
on_cpu = device.type == "cpu"
print(f"{device.type}, {str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads")


# %% [markdown]
# ## Tokens and batches
# A step sees `TOTAL_BATCH_SIZE` tokens. When they do not fit into one pass, their gradients are accumulated over
# several; sizes that do not divide are rounded, so every combination of the parameters runs.
#
# Why bytes decide and not tokens: [lesson 1](notebooks/lessons/1-bits-per-byte.ipynb).

# %%
tokenizer = Tokenizer.from_directory()
vocab_size = tokenizer.get_vocab_size()
sequence_length = min(SEQUENCE_LENGTH, MAX_SEQ_LEN)
rows = max(1, min(DEVICE_BATCH_SIZE, TOTAL_BATCH_SIZE // sequence_length))
passes_per_step = max(1, round(TOTAL_BATCH_SIZE / (rows * sequence_length)))
print(f"{passes_per_step * rows * sequence_length:,} tokens a step, {rows} rows of {sequence_length} at a time")

# %%
batches = make_dataloader(tokenizer, rows, sequence_length, "train", device, seed=SEED)


# %% [markdown]
# ## The parts of the model
# RMSNorm keeps the *length* of every vector fixed and has no weights to learn: the matrix that follows can do that.
#
# Why a token must not see the next one: [lesson 6](notebooks/lessons/6-how-agents-cheat.ipynb).


# %%
class RMSNorm(torch.autograd.Function):
    """F.rms_norm in a third of the passes over memory that autograd would need for it on a CPU."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        scale = x.size(-1) ** 0.5 / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(1e-6)  # (..., 1)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx, dy: torch.Tensor) -> torch.Tensor:
        y, scale = ctx.saved_tensors
        along = (dy * y).mean(dim=-1, keepdim=True)  # (..., 1): what only changes the length is taken out
        return torch.addcmul(dy, y, along, value=-1).mul_(scale)


def norm(x: torch.Tensor) -> torch.Tensor:
    return RMSNorm.apply(x) if on_cpu else F.rms_norm(x, (x.size(-1),))


# %% [markdown]
# Attention by itself does not know the order of tokens. Rotary embeddings turn each pair of numbers in a query or
# key by an angle that grows with its position, so a dot product sees only how far apart two tokens are.


# %%
def rotary_table(length: int, head_dim: int, base: float = 10_000.0) -> tuple[torch.Tensor, torch.Tensor]:
    frequency = base ** (-torch.arange(0, head_dim, 2) / head_dim)  # (head_dim / 2,)
    angle = torch.arange(length)[:, None] * frequency  # (length, head_dim / 2)
    return angle.cos()[:, None, None, :], angle.sin()[:, None, None, :]  # each (length, 1, 1, head_dim / 2)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, dim=-1)  # x (B, T, 2, heads, head_dim): queries and keys together
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


# %% [markdown]
# Queries and keys are normalised after the projection (QK norm): their products stay in a fixed range and training
# cannot blow up there. Every second block also adds a *value embedding*, looked up by the token itself and let in
# by a gate: content that need not be squeezed through the residual stream.
#
# The key of a token is made from the token before, and a learned share (`own_share`) of its own. So a key says "I come
# after *that*", and a single block can find what followed the last time the present token was read. Without this, a
# model needs two blocks and many steps to discover it.


# %%
class Attention(nn.Module):
    def __init__(self, has_value_embedding: bool):
        super().__init__()
        width = NUM_HEADS * HEAD_DIM
        self.qkv = nn.Linear(MODEL_DIM, 3 * width, bias=False)
        self.out = nn.Linear(width, MODEL_DIM, bias=False)
        self.own_share = nn.Parameter(torch.zeros(width)) if TOKEN_SHIFT else None
        self.value_embedding = nn.Embedding(vocab_size, width) if has_value_embedding else None
        self.value_gate = nn.Linear(32, NUM_HEADS, bias=False) if has_value_embedding else None

    def forward(self, x: torch.Tensor, idx: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, 3, NUM_HEADS, HEAD_DIM)
        qk = qkv[:, :, :2]
        if self.own_share is not None:
            q, k = qk.unbind(2)
            k = torch.addcmul(F.pad(k[:, :-1], (0, 0, 0, 0, 1, 0)), self.own_share.view(NUM_HEADS, HEAD_DIM), k)
            qk = torch.stack((q, k), dim=2)
        qk = rotate(norm(qk), cos[:T], sin[:T]).to(qkv.dtype)  # (B, T, 2, heads, head_dim)
        q, k, v = qk[:, :, 0], qk[:, :, 1], qkv[:, :, 2]  # each (B, T, heads, head_dim)
        if self.value_embedding is not None:
            gate = 2 * torch.sigmoid(self.value_gate(x[..., :32]))  # (B, T, heads), 1 at the start
            v = v + gate[..., None] * self.value_embedding(idx).view(v.shape).to(v.dtype)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


# %% [markdown]
# The MLP thinks about each token alone. ReLU squared is as good as smoother functions here and cheaper.


# %%
class SquaredReLU(torch.autograd.Function):
    """relu(x)^2, again with fewer passes over memory."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        relu = x.clamp_min(0)
        ctx.save_for_backward(relu)
        return relu * relu

    @staticmethod
    def backward(ctx, dy: torch.Tensor) -> torch.Tensor:
        (relu,) = ctx.saved_tensors
        return (dy * relu).mul_(2)


def squared_relu(x: torch.Tensor) -> torch.Tensor:
    return SquaredReLU.apply(x) if on_cpu else F.relu(x).square()


# %%
class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(MODEL_DIM, MLP_RATIO * MODEL_DIM, bias=False)
        self.down = nn.Linear(MLP_RATIO * MODEL_DIM, MODEL_DIM, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(squared_relu(self.up(x)))


# %% [markdown]
# Dropout sets random numbers to zero while the model trains. A model that reads a small text several times then cannot
# learn it by heart, and has to find what holds for other text too.


# %%
def drop(x: torch.Tensor, training: bool) -> torch.Tensor:
    return F.dropout(x, DROPOUT, training) if DROPOUT else x


# %%
class Block(nn.Module):
    def __init__(self, has_value_embedding: bool):
        super().__init__()
        self.attention = Attention(has_value_embedding)
        self.mlp = MLP()

    def forward(self, x: torch.Tensor, idx: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + drop(self.attention(norm(x), idx, cos, sin), self.training)
        return x + drop(self.mlp(norm(x)), self.training)


# %% [markdown]
# ## The head
# The head turns each vector into a score for every token of the vocabulary: the largest product of the model and its
# largest tensor. The scores are softly capped, so that no single one can run away.
#
# How a probability becomes a surprise: [lesson 1](notebooks/lessons/1-bits-per-byte.ipynb).


# %%
def softcap(logits: torch.Tensor) -> torch.Tensor:
    return logits * torch.rsqrt(1 + (logits / SOFTCAP).square())  # between -SOFTCAP and SOFTCAP


# %% [markdown]
# On a CPU, most of the time would go into carrying that tensor to memory and back. So the loss is taken a few hundred
# tokens at a time, while their scores are still in the cache, together with its gradient:
# softmax minus one-hot, times the slope of the cap.

# %%
HEAD_CHUNK = 256  # tokens


class HeadLoss(torch.autograd.Function):
    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx, h: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        dh, dweight, nll = [], torch.zeros_like(weight), 0.0
        fast_weight, one = weight.to(dtype), torch.ones(())
        for h_i, target in zip(h.to(dtype).split(HEAD_CHUNK), targets.split(HEAD_CHUNK), strict=True):
            logits = (h_i @ fast_weight.T).float()  # (HEAD_CHUNK, vocab_size)
            slope = torch.addcmul(one, logits, logits, value=SOFTCAP**-2).rsqrt_()
            p = torch.softmax(logits.mul_(slope), dim=-1)
            nll -= p.gather(1, target[:, None]).log().sum()
            p[torch.arange(len(target)), target] -= 1
            dlogits = p.mul_(slope.pow_(3)).to(dtype)
            dh.append(dlogits @ fast_weight)  # (HEAD_CHUNK, model_dim)
            dweight += dlogits.T @ h_i
        ctx.save_for_backward(torch.cat(dh), dweight)
        return nll / len(targets)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        dh, dweight = ctx.saved_tensors
        grad = grad / len(dh)
        return dh * grad, dweight * grad, None


# %% [markdown]
# ## The model
# The embedding of a token is joined by those of the *pair* and the *triple* it ends, from one hashed table: a look-up
# is nearly free, and after a minute of training most of what can be known is about such neighbours. Each block starts
# from a learned mix of the stream and this embedding, so early information need not survive every block.
#
# What counting pairs and triples is worth: [lesson 1](notebooks/lessons/1-bits-per-byte.ipynb).


# %%
def ngram_rows(idx: torch.Tensor) -> torch.Tensor:
    """Rows (2, B, T) of the pair and the triple that end at each token: a hash, so that any two may collide."""
    before = F.pad(idx[:, :-1], (1, 0))
    pair = before * 36_313 + idx * 27_191
    triple = pair + F.pad(idx[:, :-2], (2, 0)) * 15_485_863 + 7
    return torch.stack((pair, triple)) % NGRAM_ROWS


# %%
class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, MODEL_DIM)
        self.ngrams = nn.Embedding(NGRAM_ROWS, MODEL_DIM, sparse=on_cpu) if NGRAM_ROWS else None
        self.blocks = nn.ModuleList(Block(VALUE_EMBEDDINGS and i % 2 == (DEPTH - 1) % 2) for i in range(DEPTH))
        self.head = nn.Linear(MODEL_DIM, vocab_size, bias=False)
        self.keep = nn.Parameter(torch.ones(DEPTH))
        self.skip = nn.Parameter(torch.full((DEPTH,), 0.1))
        cos, sin = rotary_table(MAX_SEQ_LEN, HEAD_DIM)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def embed(self, idx: torch.Tensor) -> torch.Tensor:
        x = self.embedding(idx)  # (B, T, model_dim)
        if self.ngrams is not None:
            x = x + self.ngrams(ngram_rows(idx)).sum(dim=0)
        return drop(norm(x), self.training)

    def hidden(self, idx: torch.Tensor) -> torch.Tensor:
        x = x0 = self.embed(idx)
        for i, block in enumerate(self.blocks):
            x = block(self.keep[i] * x + self.skip[i] * x0, idx, self.cos, self.sin)
        return norm(x)

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return softcap(self.head(self.hidden(idx)).float())  # (B, T, vocab_size)

    def estimate_flops(self) -> float:
        """Floating-point operations for one token of training, forward and back: for the summary's MFU."""
        matrices = sum(p.numel() for block in self.blocks for p in block.parameters() if p.ndim == 2)
        tables = sum(m.weight.numel() for m in self.blocks.modules() if isinstance(m, nn.Embedding))
        attention = DEPTH * NUM_HEADS * HEAD_DIM * sequence_length  # half of the square: the future is masked
        return 6 * (matrices - tables + self.head.weight.numel() + attention)

    def loss(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if on_cpu:
            return HeadLoss.apply(self.hidden(idx).flatten(0, 1), self.head.weight, targets.flatten())
        return F.cross_entropy(self(idx).flatten(0, 1), targets.flatten())


# %% [markdown]
# ## Starting values
# Every block starts as the identity (its last matrices are zero) and the head starts near a uniform guess, so the
# first loss is log(vocab_size) and any seed starts the same way.
#
# Why a curve begins at log(vocab_size): [lesson 2](notebooks/lessons/2-one-experiment.ipynb).


# %%
@torch.no_grad()
def initialise(model: GPT) -> GPT:
    for name, p in model.named_parameters():
        if name.endswith(("out.weight", "down.weight", "value_gate.weight", "ngrams.weight")):
            p.zero_()
        elif name == "head.weight":
            p.normal_(std=0.001)
        elif name == "embedding.weight":
            p.normal_()
        elif p.ndim == 2:
            bound = math.sqrt(3 / MODEL_DIM)
            p.uniform_(-bound, bound)
    return model


model = initialise(GPT()).to(device)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")


# %% [markdown]
# ## Adam, for tables and scalars
# Each number gets a step size of its own, from the running mean and variance of its gradient. PyTorch has the
# arithmetic as one fused call; importing `torch.optim` around it would cost a second of start-up.
#
# How a learning rate shows in a curve: [lesson 2](notebooks/lessons/2-one-experiment.ipynb).


# %%
class AdamW:
    def __init__(self, params: list[torch.Tensor], lr: float, weight_decay: float = 0.0):
        self.params, self.lr, self.weight_decay = params, lr, weight_decay
        self.mean = [torch.zeros_like(p) for p in params]
        self.variance = [torch.zeros_like(p) for p in params]
        self.steps = [torch.zeros((), device=p.device) for p in params]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        torch._foreach_add_(self.steps, 1)
        torch._fused_adamw_(
            self.params, [p.grad for p in self.params], self.mean, self.variance, [], self.steps,
            lr=self.lr * scale, beta1=ADAM_BETA1, beta2=ADAM_BETA2, weight_decay=self.weight_decay,
            eps=1e-10, amsgrad=False, maximize=False, grad_scale=None, found_inf=None,
        )  # fmt: skip


# %% [markdown]
# The n-gram table is large and a step sees little of it, so on a CPU only the rows that were seen are read and written
# (their gradient is sparse). Each row has one running sum of squares, in the manner of Adagrad: a pair seen often
# takes smaller and smaller steps, a rare one still learns fast.


# %%
class RowAdagrad:
    def __init__(self, param: torch.Tensor, lr: float):
        self.param, self.lr = param, lr
        self.squares = torch.zeros_like(param[:, :1])

    @torch.no_grad()
    def step(self, scale: float) -> None:
        rows, grad = slice(None), self.param.grad
        if grad.is_sparse:
            grad = grad.coalesce()  # a row that was seen twice has one gradient
            rows, grad = grad.indices()[0], grad.values()
        self.squares[rows] += grad.square().mean(dim=1, keepdim=True)
        self.param[rows] -= self.lr * scale * grad / (self.squares[rows].sqrt() + 1e-10)


# %% [markdown]
# ## Muon, for the matrices
# Muon replaces the gradient of a matrix by the nearest orthogonal matrix, so that every direction moves equally fast.
# A few matrix products do it (Newton-Schulz); the coefficients are those of *Polar Express*
# (https://arxiv.org/abs/2505.16932), which converges in five rounds.
#
# How an agent argues for such a change: [lesson 5](notebooks/lessons/5-an-agent-at-work.ipynb).

# %%
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


# %%
def orthogonalise(x: torch.Tensor) -> torch.Tensor:
    """The orthogonal factor of each matrix in x (n, rows <= columns, columns), to about 5 %."""
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        s = x @ x.mT  # (n, rows, rows)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x


# %% [markdown]
# Matrices of one shape are stacked, a tall one lying on its side, so that one product serves them all. Queries, keys
# and values share one parameter and are three matrices all the same.


# %%
class Muon:
    def __init__(self, params: list[torch.Tensor], parts: list[int], lr: float):
        self.params, self.parts, self.lr = params, parts, lr
        self.momentum = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        grads = [p.grad for p in self.params]
        torch._foreach_lerp_(self.momentum, grads, 1 - MUON_MOMENTUM)
        torch._foreach_lerp_(grads, self.momentum, MUON_MOMENTUM)  # Nesterov: look one step ahead
        torch._foreach_mul_(self.params, 1 - self.lr * scale * WEIGHT_DECAY)
        for group in self.by_shape(grads):
            updates = orthogonalise(torch.stack([grad for _, grad, _ in group]))
            for (matrix, _, stretch), update in zip(group, updates, strict=True):
                matrix.add_(update, alpha=-self.lr * scale * stretch)

    def by_shape(self, grads: list[torch.Tensor]):
        """Groups of (matrix, gradient, stretch); an output larger than its input is stretched, to feel the same."""
        groups = {}
        for param, grad, parts in zip(self.params, grads, self.parts, strict=True):
            for matrix, g in zip(param.chunk(parts), grad.chunk(parts), strict=True):
                rows, columns = matrix.shape
                matrix, g = (matrix, g) if rows <= columns else (matrix.mT, g.mT)
                groups.setdefault(g.shape, []).append((matrix, g, max(1.0, rows / columns) ** 0.5))
        return groups.values()


# %% [markdown]
# ## Who gets which
# Matrices inside the blocks go to Muon; tables, the head and the scalars to Adam, each with a rate of its own. Without
# Muon the matrices go to AdamW. The numbers of an orthogonal matrix are about 1 / sqrt(MODEL_DIM) in size, so AdamW's
# rate is divided by that root: then MATRIX_LR means steps of about the same size for both.
#
# Try a rate of your own: [lesson 3](notebooks/lessons/3-be-the-agent.ipynb).

# %%
named = dict(model.named_parameters())
matrices = [n for n in named if n.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight"))]
block_matrices = [named[n] for n in matrices]
optimizers = [
    Muon(block_matrices, [3 if "qkv" in n else 1 for n in matrices], MATRIX_LR)
    if MUON
    else AdamW(block_matrices, MATRIX_LR / math.sqrt(MODEL_DIM), WEIGHT_DECAY),
    AdamW([p for n, p in named.items() if n.endswith("embedding.weight")], EMBEDDING_LR),
    AdamW([model.head.weight], HEAD_LR),
    AdamW([p for n, p in named.items() if p.ndim == 1 or n.endswith("gate.weight")], SCALAR_LR),
]
if model.ngrams is not None:
    optimizers.append(RowAdagrad(model.ngrams.weight, NGRAM_LR))


# %% [markdown]
# ## The schedule
# Learning rates follow the share of the budget that is used, not the number of steps: a slow machine and a fast one
# go through the same rise, plateau and fall.
#
# Why the same code gives other scores each time: [lesson 4](notebooks/lessons/4-noise.ipynb).


# %%
def learning_rate(progress: float) -> float:
    rise = progress / WARMUP if WARMUP > 0 else 1.0
    fall = (1 - progress) / WARMDOWN if WARMDOWN > 0 else 1.0
    return FINAL_LR + (1 - FINAL_LR) * max(0.0, min(1.0, rise, fall))


# %% [markdown]
# ## Before the clock starts
# On a GPU the model is compiled. One pass that teaches nothing pays for compilation, allocation and caches here,
# outside the budget.
#
# What may be done while no clock runs: [lesson 6](notebooks/lessons/6-how-agents-cheat.ipynb).


# %%
def gradient_pass(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with autocast(device):
        loss = loss_of(x, y)
    (loss / passes_per_step).backward()
    return loss.detach()


loss_of = torch.compile(model.loss, dynamic=False) if device.type == "cuda" else model.loss
x, y, epoch = next(batches)
gradient_pass(x, y)

# %% [markdown]
# ## Training
# The loop asks the clock whether there is time left, and tells it the loss; the clock stops a run whose loss
# is no longer a number.
#
# One run, cell by cell: [lesson 2](notebooks/lessons/2-one-experiment.ipynb).

# %%
clock = TrainingClock()
while clock.running():
    for p in model.parameters():
        p.grad = None
    for _ in range(passes_per_step):
        train_loss = gradient_pass(x, y)
        x, y, epoch = next(batches)
    for optimizer in optimizers:
        optimizer.step(learning_rate(clock.progress))
    clock.report(train_loss=float(train_loss), epoch=epoch)

# %% [markdown]
# ## The score
# Bits per byte: how many bits the model needs, on average, for a byte of text it has not seen. Inside an experiment
# the model is handed over and scored in another process; by hand, the summary is printed here.
#
# Bits per byte by hand: [lesson 1](notebooks/lessons/1-bits-per-byte.ipynb).
# Why another process scores: [lesson 6](notebooks/lessons/6-how-agents-cheat.ipynb).

# %%
val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)
