"""A train.py in the shape of the original program's, in small, and what forks of it change. Written for these tests."""

from __future__ import annotations

import json

ORIGINAL = '''"""
A small GPT on one GPU. Start it with: uv run train.py
"""

import os
os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"

import gc
import math
import time
from dataclasses import dataclass, asdict

import torch
import torch.nn as nn
import torch.nn.functional as F

from kernels import get_kernel
cap = torch.cuda.get_device_capability()
source = "someone/attention-hopper" if cap == (9, 0) else "someone/attention"
fast_attention = get_kernel(source).flash_attn_interface

from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, make_dataloader, evaluate_bpb

# ---------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------

@dataclass
class GPTConfig:
    sequence_len: int = 2048
    vocab_size: int = 32768
    n_layer: int = 12
    n_head: int = 6
    n_embd: int = 768
    window_pattern: str = "SSSL"


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


def rotate(x, cos, sin):
    half = x.shape[3] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos + b * sin, b * cos - a * sin], 3)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x, ve, cos_sin, window_size):
        B, T, C = x.size()
        q, k, v = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head).unbind(2)
        v = v + ve.view(v.shape)
        cos, sin = cos_sin
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        y = fast_attention.flash_attn_func(q, k, v, causal=True, window_size=window_size)
        return self.c_proj(y.contiguous().view(B, T, -1))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        windows = {"L": (config.sequence_len, 0), "S": (config.sequence_len // 2, 0)}
        self.windows = [windows[config.window_pattern[i % 4]] for i in range(config.n_layer)]
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.ve = nn.Embedding(config.vocab_size, config.n_embd)
        self.h = nn.ModuleList([Attention(config) for _ in range(config.n_layer)])
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lambdas = nn.Parameter(torch.ones(config.n_layer))
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)

    @torch.no_grad()
    def init_weights(self):
        for p in self.parameters():
            nn.init.normal_(p, std=0.02)
        self.lambdas.fill_(1.0)
        self.cos, self.sin = self._rotary(self.config.sequence_len, self.config.n_embd // self.config.n_head)
        self.wte.to(dtype=torch.bfloat16)
        self.ve.to(dtype=torch.bfloat16)

    def _rotary(self, seq_len, head_dim):
        device = self.wte.weight.device
        freq = 10000 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
        angle = torch.outer(torch.arange(seq_len, dtype=torch.float32, device=device), freq)
        cos, sin = angle.cos().bfloat16(), angle.sin().bfloat16()
        return cos[None, :, None, :], sin[None, :, None, :]

    def estimate_flops(self):
        return 6 * sum(p.numel() for p in self.parameters())

    def forward(self, idx, targets=None, reduction="mean"):
        T = idx.size(1)
        x = norm(self.wte(idx))
        ve = self.ve(idx)
        for i, block in enumerate(self.h):
            x = self.lambdas[i] * x
            x = x + block(norm(x), ve, (self.cos[:, :T], self.sin[:, :T]), self.windows[i])
        logits = 15 * torch.tanh(self.lm_head(norm(x)).float() / 15)
        if targets is not None:
            return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), reduction=reduction)
        return logits

# ---------------------------------------------------------------------------
# The optimizer
# ---------------------------------------------------------------------------

@torch.compile(dynamic=False, fullgraph=True)
def adamw_step_fused(p, grad, mean, square, step_t, lr_t):
    mean.lerp_(grad, 0.2)
    square.lerp_(grad.square(), 0.05)
    denom = (square / (1 - 0.95 ** step_t)).sqrt() + 1e-10
    p.add_(mean / denom, alpha=-(lr_t / (1 - 0.8 ** step_t)))

@torch.compile(dynamic=False, fullgraph=True)
def muon_step_fused(p, grad, momentum_t, lr_t):
    X = grad.bfloat16()
    X = X / (X.norm() + 1e-6)
    X = 1.5 * X - 0.5 * X @ X.mT @ X
    p.sub_(lr_t * momentum_t * X)


class MuonAdamW(torch.optim.Optimizer):
    def __init__(self, param_groups):
        super().__init__(param_groups, defaults={})
        self._t = torch.tensor(0.0, dtype=torch.float32, device="cpu")
        self._lr = torch.tensor(0.0, dtype=torch.float32, device="cpu")
        self._momentum = torch.tensor(0.0, dtype=torch.float32, device="cpu")

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            self._lr.fill_(group["lr"])
            for p in group["params"]:
                if group["kind"] == "muon":
                    self._momentum.fill_(group["momentum"])
                    muon_step_fused(p, p.grad, self._momentum, self._lr)
                    continue
                state = self.state[p]
                if not state:
                    state["t"], state["mean"], state["square"] = 0, torch.zeros_like(p), torch.zeros_like(p)
                state["t"] += 1
                self._t.fill_(state["t"])
                adamw_step_fused(p, p.grad, state["mean"], state["square"], self._t, self._lr)

# ---------------------------------------------------------------------------
# Hyperparameters (edit these, there are no flags)
# ---------------------------------------------------------------------------

# The network
ASPECT_RATIO = 16       # model_dim = depth * ASPECT_RATIO
HEAD_DIM = 16           # of one head
WINDOW_PATTERN = "SSSL" # L=all of it, S=the half

# The optimizer
TOTAL_BATCH_SIZE = 2**9 # tokens in a step
EMBEDDING_LR = 0.02     # Adam
MATRIX_LR = 0.01        # Muon
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0      # share of the budget
WARMDOWN_RATIO = 0.5    # share of the budget
FINAL_LR_FRAC = 0.0     # of the learning rate

# Sizes
DEPTH = 2               # blocks
DEVICE_BATCH_SIZE = 4   # rows, fewer when memory is short

# ---------------------------------------------------------------------------
# Setup
# ---------------------------------------------------------------------------

t_start = time.time()
torch.manual_seed(1337)
torch.cuda.manual_seed(1337)
torch.set_float32_matmul_precision("high")
device = torch.device("cuda")
autocast_ctx = torch.amp.autocast(device_type="cuda", dtype=torch.bfloat16)
H100_BF16_PEAK_FLOPS = 989.5e12

tokenizer = Tokenizer.from_directory()
vocab_size = tokenizer.get_vocab_size()

def build_model_config(depth):
    model_dim = ((depth * ASPECT_RATIO + HEAD_DIM - 1) // HEAD_DIM) * HEAD_DIM
    return GPTConfig(
        sequence_len=MAX_SEQ_LEN, vocab_size=vocab_size, n_layer=depth, n_head=model_dim // HEAD_DIM,
        n_embd=model_dim, window_pattern=WINDOW_PATTERN,
    )

config = build_model_config(DEPTH)
print(f"Model config: {asdict(config)}")

with torch.device("meta"):
    model = GPT(config)
model.to_empty(device=device)
model.init_weights()
num_flops_per_token = model.estimate_flops()

tokens_per_fwdbwd = DEVICE_BATCH_SIZE * MAX_SEQ_LEN
assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0
grad_accum_steps = TOTAL_BATCH_SIZE // tokens_per_fwdbwd

optimizer = MuonAdamW([
    dict(kind="adamw", params=[model.wte.weight, model.ve.weight, model.lm_head.weight], lr=EMBEDDING_LR),
    dict(kind="muon", params=[p for p in model.h.parameters()], lr=MATRIX_LR, momentum=0.95),
    dict(kind="adamw", params=[model.lambdas], lr=EMBEDDING_LR),
])
for group in optimizer.param_groups:
    group["initial_lr"] = group["lr"]

model = torch.compile(model, dynamic=False)

train_loader = make_dataloader(tokenizer, DEVICE_BATCH_SIZE, MAX_SEQ_LEN, "train")
x, y, epoch = next(train_loader)  # the first batch
print(f"Time budget: {TIME_BUDGET}s")

def get_lr_multiplier(progress):
    if progress < WARMUP_RATIO:
        return progress / WARMUP_RATIO
    if progress < 1.0 - WARMDOWN_RATIO:
        return 1.0
    cooldown = (1.0 - progress) / WARMDOWN_RATIO
    return cooldown + (1 - cooldown) * FINAL_LR_FRAC

# ---------------------------------------------------------------------------
# Training loop
# ---------------------------------------------------------------------------

t_start_training = time.time()
smooth_train_loss = 0
total_training_time = 0
step = 0

while True:
    torch.cuda.synchronize()
    t0 = time.time()
    for micro_step in range(grad_accum_steps):
        with autocast_ctx:
            loss = model(x, y)
        train_loss = loss.detach()
        loss = loss / grad_accum_steps
        loss.backward()
        x, y, epoch = next(train_loader)

    # Schedules
    progress = min(total_training_time / TIME_BUDGET, 1.0)
    lrm = get_lr_multiplier(progress)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * lrm
    optimizer.step()
    model.zero_grad(set_to_none=True)

    train_loss_f = train_loss.item()

    # Stop early when the loss explodes
    if math.isnan(train_loss_f) or train_loss_f > 100:
        print("FAIL")
        exit(1)

    torch.cuda.synchronize()
    t1 = time.time()
    dt = t1 - t0

    if step > 10:
        total_training_time += dt

    smooth_train_loss = 0.9 * smooth_train_loss + 0.1 * train_loss_f
    debiased = smooth_train_loss / (1 - 0.9**(step + 1))
    mfu = 100 * num_flops_per_token * TOTAL_BATCH_SIZE / dt / H100_BF16_PEAK_FLOPS
    remaining = max(0, TIME_BUDGET - total_training_time)
    print(f"\\rstep {step:05d} ({100 * progress:.1f}%) | {debiased:.6f} | {mfu:.1f}% | {remaining:.0f}s", end="")

    if step == 0:
        gc.collect()
        gc.freeze()
        gc.disable()

    step += 1

    # The end of the budget, without the steps that compile
    if step > 10 and total_training_time >= TIME_BUDGET:
        break

print()
total_tokens = step * TOTAL_BATCH_SIZE

# Final eval
model.eval()
with autocast_ctx:
    val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)

# Final summary
t_end = time.time()
startup_time = t_start_training - t_start
peak_vram_mb = torch.cuda.max_memory_allocated() / 1024 / 1024

print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {total_training_time:.1f}")
print(f"peak_vram_mb:     {peak_vram_mb:.1f}")
print(f"depth:            {DEPTH}")
'''

MODEL = """
class Tiny(nn.Module):
    def __init__(self, vocab_size, dim=32):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim)
        self.mix = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, vocab_size)

    def forward(self, idx, targets=None):
        logits = self.head(F.relu(self.mix(self.embed(idx)))).float()
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

"""

IMPORTS = """import math
import os
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, make_dataloader
"""

# One function with everything in it, a command line, and a loop that asks the clock itself.
ARGPARSE = f"""#!/usr/bin/env python
import argparse
{IMPORTS}{MODEL}
def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=32, help="of the stream")
    parser.add_argument("--lr", type=float, default=1, help="learning rate")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--time-budget", type=float, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", type=str, default="cuda")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def main():
    args = parse()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = Tokenizer.from_directory()
    model = Tiny(tokenizer.get_vocab_size(), args.width).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    batches = make_dataloader(tokenizer, args.batch_size, MAX_SEQ_LEN, split="train")
    start = time.perf_counter()
    while time.perf_counter() - start < args.time_budget:
        x, y, _ = next(batches)
        progress = (time.perf_counter() - start) / args.time_budget
        for group in optimizer.param_groups:
            group["lr"] = args.lr * (1 - progress)
        loss = model(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    val_bpb = evaluate_bpb(model, tokenizer, args.batch_size)
    print(f"val_bpb: {{val_bpb:.4f}}")
    return val_bpb


if __name__ == "__main__":
    main()
"""

# A device chosen in a chain of conditions, with what belongs to each.
OWN_PICK = f"""{IMPORTS}
LR = 0.5  # of SGD
BATCH = 16

def get_best_device():
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"

device_type = get_best_device()
if torch.cuda.is_available():
    device = torch.device("cuda")
elif torch.backends.mps.is_available():
    device = torch.device("mps")
else:
    device = torch.device("cpu")
precision = torch.bfloat16 if device_type == "cuda" else torch.float32

def synchronize():
    if device_type == "cuda":
        torch.cuda.synchronize()
{MODEL}
torch.manual_seed(0)
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size()).to(device)
opt = torch.optim.SGD(model.parameters(), lr=LR)
loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")
t_start = time.time()
step = 0
while True:
    synchronize()
    x, y, epoch = next(loader)
    with torch.autocast(device_type=device_type, dtype=precision):
        loss = model(x.to(device), y.to(device))
    loss.backward()
    opt.step()
    opt.zero_grad()
    step += 1
    elapsed = time.time() - t_start
    if elapsed > TIME_BUDGET:
        print("time is up")
        break
vram = torch.cuda.max_memory_allocated() / 2**20 if device_type == "cuda" else 0.0
val_bpb = evaluate_bpb(model, tokenizer, BATCH, device=device)
print(val_bpb, vram)
"""

# Settings in a .env file, and constants that read the environment.
DOTENV = f"""from dotenv import load_dotenv
{IMPORTS}
load_dotenv()

TIME_BUDGET = int(os.environ.get("TIME_BUDGET", "300"))
LR = float(os.getenv("LR", "0.5"))
BATCH = int(os.environ.get("BATCH", 16))  # rows
DEBUG = os.environ.get("DEBUG", "0") == "1"
{MODEL}
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size())
opt = torch.optim.SGD(model.parameters(), lr=LR)
loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train",)
start = time.monotonic()
for step in range(10**9):
    if time.monotonic() - start >= TIME_BUDGET:
        break
    x, y, epoch = next(loader)
    loss = model(x, y)
    loss.backward()
    opt.step()
    opt.zero_grad()
val_bpb = evaluate_bpb(model, tokenizer, BATCH)
"""

# Apple's GPU, with seconds that are added up step by step.
MPS = f"""{IMPORTS}
assert torch.backends.mps.is_available() or True
LEARNING_RATE = 0.5
BATCH_SIZE = 16
device = torch.device("mps")
{MODEL}
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size()).to(device)
opt = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
loader = make_dataloader(tokenizer, BATCH_SIZE, MAX_SEQ_LEN, "train", device=device)
spent = 0.0
step = 0
while spent < TIME_BUDGET:
    t0 = time.time()
    x, y, epoch = next(loader)
    loss = model(x, y)
    loss.backward()
    opt.step()
    opt.zero_grad(set_to_none=True)
    torch.mps.synchronize()
    spent += time.time() - t0
    step += 1
    if step % 100 == 0:
        torch.mps.empty_cache()
mem = torch.mps.current_allocated_memory() / 2**20
val_bpb = evaluate_bpb(model, tokenizer, BATCH_SIZE)
print(f"peak {{mem:.0f}}")
"""

# The largest batch that fits, found by trying.
AUTOTUNED = f"""{IMPORTS}
LR = 0.5
MAX_BATCH = 32
{MODEL}
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size()).cuda()

def largest_batch():
    batch = MAX_BATCH
    while batch > 1:
        try:
            x = torch.zeros((batch, MAX_SEQ_LEN), dtype=torch.long, device="cuda")
            trial = torch.optim.SGD(model.parameters(), lr=0.0)
            for _ in range(2):
                model(x, x).backward()
                trial.step()
            return batch
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            torch.cuda.empty_cache()
            batch //= 2
    return 1

DEVICE_BATCH_SIZE = largest_batch()
opt = torch.optim.SGD(model.parameters(), lr=LR)
loader = make_dataloader(tokenizer, DEVICE_BATCH_SIZE, MAX_SEQ_LEN, "train")
total_training_time = 0
step = 0
while True:
    t0 = time.time()
    x, y, epoch = next(loader)
    loss = model(x, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    total_training_time += time.time() - t0
    step += 1
    if total_training_time >= TIME_BUDGET:
        break
val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)
"""

# A tracker on the network.
WANDB = f"""{IMPORTS}
import wandb

LR = 0.5
BATCH = 16
WANDB_PROJECT = "mine"
{MODEL}
run = wandb.init(project=WANDB_PROJECT, config=dict(lr=LR))
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size())
wandb.watch(model)
opt = torch.optim.SGD(model.parameters(), lr=LR)
loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")
t0 = time.time()
step = 0
while True:
    x, y, epoch = next(loader)
    loss = model(x, y)
    loss.backward()
    opt.step()
    opt.zero_grad()
    if step % 10 == 0:
        run.log({{"loss": loss.item()}}, step=step)
    step += 1
    if time.time() - t0 > TIME_BUDGET:
        break
val_bpb = evaluate_bpb(model, tokenizer, BATCH)
wandb.log({{"val_bpb": val_bpb}})
run.summary["val_bpb"] = val_bpb
wandb.finish()
"""

# Started by torchrun, or alone.
DDP = f"""{IMPORTS}
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

LR = 0.5
BATCH = 16
{MODEL}
ddp = int(os.environ.get("RANK", -1)) != -1
if ddp:
    dist.init_process_group(backend="nccl")
    ddp_local_rank = int(os.environ["LOCAL_RANK"])
    device = f"cuda:{{ddp_local_rank}}"
    torch.cuda.set_device(device)
else:
    ddp_local_rank = 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
master_process = ddp_local_rank == 0
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size()).to(device)
raw_model = model
if ddp:
    model = DDP(model, device_ids=[ddp_local_rank])
opt = torch.optim.SGD(model.parameters(), lr=LR)
loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")
t0 = time.time()
while time.time() - t0 < TIME_BUDGET:
    x, y, epoch = next(loader)
    loss = model(x, y)
    loss.backward()
    if ddp:
        dist.all_reduce(loss)
    opt.step()
    opt.zero_grad()
if master_process:
    val_bpb = evaluate_bpb(raw_model, tokenizer, BATCH)
    print(f"val_bpb: {{val_bpb}}")
if ddp:
    dist.destroy_process_group()
"""

# Epochs around the loop, a flag that ends it, and another order of loss and step.
EPOCHS = f"""{IMPORTS}
# === Settings ===
LR = 0.5
BATCH = 16
STEPS_PER_EPOCH = 50
EPOCHS = 10**6
# === Model ===
{MODEL}
# === Training ===
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size())
opt = torch.optim.SGD(model.parameters(), lr=LR)
loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")
deadline = time.time() + TIME_BUDGET
for epoch in range(EPOCHS):
    for i in range(STEPS_PER_EPOCH):
        x, y, _ = next(loader)
        l = model(x, y)
        opt.zero_grad()
        l.backward()
        opt.step()
    print("epoch", epoch, l.item())
    if time.time() > deadline:
        break
# === Score ===
val_bpb = evaluate_bpb(model, tokenizer, BATCH)
"""


# Shorter ones: the settings, the model and the batches are the same, and the rest differs.
SETTINGS = "LR = 0.5\nBATCH = 16\n"
SETUP = """
tokenizer = Tokenizer.from_directory()
model = Tiny(tokenizer.get_vocab_size())
opt = torch.optim.SGD(model.parameters(), lr=LR)
loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")
"""
PLAIN = """t0 = time.time()
while time.time() - t0 < TIME_BUDGET:
    x, y, epoch = next(loader)
    loss = model(x, y)
    loss.backward()
    opt.step()
    opt.zero_grad()
val_bpb = evaluate_bpb(model, tokenizer, BATCH)
"""
ARGUMENTS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.5)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--device", default="cuda")
args, _ = parser.parse_known_args()
LR = args.lr
BATCH = args.batch
device = torch.device(args.device)
"""
TRAINER = """
class Trainer:
    def fit(self):
        self.start = time.time()
        for epoch in range(10**6):
            self.elapsed = time.time() - self.start
            if self.elapsed >= TIME_BUDGET:
                break
            x, y, _ = next(loader)
            progress = self.elapsed / TIME_BUDGET
            total = model(x, y) * (1 + 0 * progress)
            total.backward()
            opt.step()
            opt.zero_grad()


def main():
    Trainer().fit()
    return int(evaluate_bpb(model, tokenizer, BATCH) > 99)


if __name__ == "__main__":
    sys.exit(main())
"""
GPU_ONLY = """
DEVICE = "cuda"
assert torch.cuda.is_available(), "this needs a GPU"
if not torch.cuda.is_available():
    print("no GPU")
    sys.exit(1)
"""
WITH_FALLBACK = """
try:
    from flash_attn import flash_attn_func
except ImportError:
    flash_attn_func = None
"""
HERE = "sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\n"
BODY = MODEL + SETTINGS + SETUP + PLAIN
SHORT = {
    "arguments_at_the_top": IMPORTS + ARGUMENTS + MODEL + SETUP + PLAIN,
    "main_block": IMPORTS
    + MODEL
    + SETTINGS
    + "if __name__ == '__main__':"
    + (SETUP + PLAIN).replace("\n", "\n    ")
    + "\n",
    "trainer": "import sys\n" + IMPORTS + MODEL + SETTINGS + SETUP + TRAINER,
    "star": IMPORTS.rpartition("import")[0] + "import *\n" + BODY,
    "gpu_only": "import sys\n" + IMPORTS + GPU_ONLY + BODY.replace("())\nopt", "()).to(DEVICE)\nopt"),
    "fallback": IMPORTS + WITH_FALLBACK + BODY,
    "exported": IMPORTS + "\n# In[3]:\n\n\nget_ipython().system('pip install wandb')\n" + BODY,
    "pairs": "import sys\n" + IMPORTS + HERE + BODY.replace("x, y, epoch =", "x, y ="),
    "tabs": IMPORTS + BODY.replace("    ", "\t"),
}


def colab() -> str:
    """A notebook as Colab writes it."""
    code = DOTENV.replace("from dotenv import load_dotenv\n", "").replace("load_dotenv()\n", "")
    cells = [
        ("markdown", "# My experiment\nin Colab"),
        ("code", "!pip install -q tiktoken\n%cd /content\nimport sys"),
        ("code", "%%bash\nls -la"),
        ("code", code),
    ]
    return json.dumps({"cells": [{"cell_type": kind, "source": text.splitlines(True)} for kind, text in cells]})


FORKS = {"argparse": ARGPARSE, "own_pick": OWN_PICK, "dotenv": DOTENV, "mps": MPS, "autotuned": AUTOTUNED,
         "wandb": WANDB, "ddp": DDP, "epochs": EPOCHS, **SHORT}  # fmt: skip
