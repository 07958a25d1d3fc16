"""A scripted model: it plays a language model that has a fixed list of ideas and no thoughts of its own.

    autoresearch run --agent command --with "python benchmarks/scripted_model.py"

It reads one prompt from standard input and prints one reply. The reply proposes the first idea of the list that the
prompt does not mention yet and whose blocks all fit the train.py in the prompt. So a study of many structural changes,
of which some help, many do nothing, some hurt and a few fail, can be run again and again at no cost.

    python benchmarks/scripted_model.py --list             # the ideas, one in a line
    python benchmarks/scripted_model.py --apply 12 FILE    # prints train.py FILE with the 12th idea

Each idea changes few lines, so that most of the others still fit after it was kept. What was proposed is found by the
titles in the record; older experiments may have no line of their own there, so the notes hold the numbers as well.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NOTES = "Ideas that were proposed, by their number in the list:"


@dataclass(frozen=True)
class Edit:
    """Whole lines of train.py and what replaces them; both end without a newline."""

    search: str
    replace: str


@dataclass(frozen=True)
class Idea:
    title: str
    why: str
    expected_bpb: str  # begins with a number
    refuted_by: str
    edits: tuple[Edit, ...]
    fails: str = ""  # how it fails when it runs; "" for most ideas


def after(line: str, new: str) -> Edit:
    """`new` is inserted behind `line`."""
    return Edit(line, f"{line}\n{new}")


def before(line: str, new: str) -> Edit:
    return Edit(line, f"{new}\n{line}")


def instead(old: str, new: str) -> Edit:
    return Edit(old, new)


# Lines of train.py that several ideas refer to.
ATTENTION_PARTS = "        self.out = nn.Linear(width, MODEL_DIM, bias=False)"
SPLIT_KEYS = "            q, k = qk.unbind(2)"
ROTATED = "        qk = rotate(norm(qk), cos[:T], sin[:T]).to(qkv.dtype)  # (B, T, 2, heads, head_dim)"
SPLIT_QKV = "        q, k, v = qk[:, :, 0], qk[:, :, 1], qkv[:, :, 2]  # each (B, T, heads, head_dim)"
ATTEND = (
    "        y = F.scaled_dot_product_attention("
    "q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)"
)
ATTENTION_OUT = "        return self.out(y.transpose(1, 2).reshape(B, T, -1))"
MLP_UP = "        self.up = nn.Linear(MODEL_DIM, MLP_RATIO * MODEL_DIM, bias=False)"
MLP_OUT = "        return self.down(squared_relu(self.up(x)))"
BLOCK_ATTENTION = "        x = x + drop(self.attention(norm(x), idx, cos, sin), self.training)"
BLOCK_MLP = "        return x + drop(self.mlp(norm(x)), self.training)"
BLOCK_PARTS = "        self.mlp = MLP()"
SOFTMAX = "            p = torch.softmax(logits.mul_(slope), dim=-1)"
SLOPE = "            slope = torch.addcmul(one, logits, logits, value=SOFTCAP**-2).rsqrt_()"
ONE_HOT = "            p[torch.arange(len(target)), target] -= 1"
NGRAM_ROWS = "    return torch.stack((pair, triple)) % NGRAM_ROWS"
MODEL_PARTS = "        self.head = nn.Linear(MODEL_DIM, vocab_size, bias=False)"
EMBEDDED = "        x = self.embedding(idx)  # (B, T, model_dim)"
NGRAMS = "            x = x + self.ngrams(ngram_rows(idx)).sum(dim=0)"
STREAM = "        x = x0 = self.embed(idx)"
BLOCK_CALL = "            x = block(self.keep[i] * x + self.skip[i] * x0, idx, self.cos, self.sin)"
LAST_NORM = "        return norm(x)"
LOGITS = "        return softcap(self.head(self.hidden(idx)).float())  # (B, T, vocab_size)"
LOSS_ON_CPU = "        if on_cpu:"
HEAD_LOSS = "            return HeadLoss.apply(self.hidden(idx).flatten(0, 1), self.head.weight, targets.flatten())"
ZEROS = "            p.zero_()"
BOUND = "            bound = math.sqrt(3 / MODEL_DIM)"
UNIFORM = "            p.uniform_(-bound, bound)"
ADAGRAD_ROWS = "        rows, grad = slice(None), self.param.grad"
ADAGRAD_SQUARES = "        self.squares[rows] += grad.square().mean(dim=1, keepdim=True)"
ORTHOGONAL = "            updates = orthogonalise(torch.stack([grad for _, grad, _ in group]))"
EMBEDDING_ADAM = '    AdamW([p for n, p in named.items() if n.endswith("embedding.weight")], EMBEDDING_LR),'
HEAD_ADAM = "    AdamW([model.head.weight], HEAD_LR),"
FALL = "    fall = (1 - progress) / WARMDOWN if WARMDOWN > 0 else 1.0"
CLOCK = "clock = TrainingClock()"
RUNNING = "while clock.running():"
PASS = "        train_loss = gradient_pass(x, y)"
EACH_OPTIMIZER = "    for optimizer in optimizers:"
UPDATE = "        optimizer.step(learning_rate(clock.progress))"
REPORT = "    clock.report(train_loss=float(train_loss), epoch=epoch)"
SCORE = "val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)"

NO_GAIN = "val_bpb is not lower than the incumbent's by more than its error"

IDEAS: tuple[Idea, ...] = (
    Idea(
        "Values from the token before",
        "The key of a token is made from the token before and its value is not, so the model cannot pass on what stood "
        "there. A learned share of the previous value is added, which begins at zero.",
        "-0.006 to -0.001",
        NO_GAIN,
        (
            after(ATTENTION_PARTS, "        self.value_shift = nn.Parameter(torch.zeros(width))"),
            after(
                SPLIT_QKV,
                "        v_before = F.pad(v[:, :-1], (0, 0, 0, 0, 1, 0))\n"
                "        v = v + self.value_shift.view(NUM_HEADS, HEAD_DIM) * v_before",
            ),
        ),
    ),
    Idea(
        "Warmdown by a cosine",
        "A straight fall spends as long at small rates as at large ones. Half a cosine stays high longer and lands "
        "softly, which most published schedules do.",
        "-0.004 to 0.002",
        "val_bpb is higher, because the straight fall to zero is better for short runs",
        (after(FALL, "    fall = 0.5 - 0.5 * math.cos(math.pi * max(0.0, min(1.0, fall)))"),),
    ),
    Idea(
        "Hashed 4-grams",
        "Code and package texts repeat long phrases, so a row for the last four tokens should predict some next tokens "
        "almost surely. The look-up costs little.",
        "-0.010 to -0.002",
        "val_bpb does not fall: four tokens seldom come again within so few steps",
        (
            after(
                NGRAMS,
                "            third, fourth = F.pad(idx[:, :-2], (2, 0)), F.pad(idx[:, :-3], (3, 0))\n"
                "            four = idx * 27_191 + F.pad(idx[:, :-1], (1, 0)) * 36_313 + third * 49_157\n"
                "            x = x + self.ngrams((four + fourth * 98_317 + 3) % NGRAM_ROWS)",
            ),
        ),
    ),
    Idea(
        "Gradient clipping",
        "Single batches have gradients several times the usual size, and Adam's mean carries them on for several "
        "steps. Clipping their norm to 1 should make training steadier.",
        "-0.002 to 0.002",
        "val_bpb is not lower: the optimizers normalise their steps anyway",
        (
            before(
                EACH_OPTIMIZER,
                "    dense = [p for p in model.parameters() if not p.grad.is_sparse]\n"
                "    torch.nn.utils.clip_grad_norm_(dense, 1.0)",
            ),
        ),
    ),
    Idea(
        "Smear of the previous embedding",
        "Half of what predicts the next token is the token before. A learned share of its embedding in the stream "
        "makes it known to everything that follows, before any attention.",
        "-0.005 to 0.000",
        "val_bpb is the same, because the row of the pair already holds it",
        (
            after(MODEL_PARTS, "        self.smear = nn.Parameter(torch.zeros(MODEL_DIM))"),
            after(EMBEDDED, "        x = x + self.smear * F.pad(x[:, :-1], (0, 0, 1, 0))"),
        ),
    ),
    Idea(
        "Label smoothing",
        "One percent of the probability goes to all tokens, so that the scores of the head stay small and the model is "
        "less sure of what it has seen once.",
        "-0.002 to 0.004",
        "val_bpb rises, because the measure rewards probabilities that are right and not smooth ones",
        (
            after(
                ONE_HOT,
                "            p.sub_(0.01 / p.size(1))\n            p[torch.arange(len(target)), target] += 0.01",
            ),
        ),
    ),
    Idea(
        "Gate on the output of attention",
        "A head that finds nothing still has to return a mean of values. A gate for each head, from the first numbers "
        "of the token, lets it be silent.",
        "-0.005 to -0.001",
        NO_GAIN,
        (
            after(ATTENTION_PARTS, "        self.head_value_gate = nn.Linear(32, NUM_HEADS, bias=False)"),
            before(
                ATTENTION_OUT,
                "        open_share = 2 * torch.sigmoid(self.head_value_gate(x[..., :32]))  # (B, T, heads)\n"
                "        y = y * open_share.transpose(1, 2)[..., None].to(y.dtype)",
            ),
        ),
    ),
    Idea(
        "Plain ReLU",
        "The square of ReLU makes the few large inputs dominate. Without it the gradients of the MLP are even, which "
        "may be better for a model that is trained so briefly.",
        "-0.002 to 0.008",
        "val_bpb rises",
        (instead(MLP_OUT, "        return self.down(F.relu(self.up(x)))"),),
    ),
    Idea(
        "Direct path from token to head",
        "With a second embedding that goes to the head without passing the block, the head holds a table of pairs of "
        "low rank, and the block is free for what it can do better.",
        "-0.006 to 0.000",
        "val_bpb is the same, because the stream carries the embedding to the head anyway",
        (
            after(MODEL_PARTS, "        self.direct_embedding = nn.Embedding(vocab_size, MODEL_DIM)"),
            before(LAST_NORM, "        x = x + self.direct_embedding(idx)"),
        ),
    ),
    Idea(
        "Half the rows at first",
        "Early on, any batch shows the way, so small batches give more updates for the same time. In the first fifth "
        "of the budget only half of the rows of each batch are used.",
        "-0.008 to 0.002",
        "val_bpb is not lower: a step of half the rows takes more than half of the time",
        (
            before(
                PASS,
                "        if clock.progress < 0.2 and rows > 1:\n            x, y = x[: rows // 2], y[: rows // 2]",
            ),
        ),
    ),
    Idea(
        "Shared MLP passed twice",
        "The weights of the MLP are used a second time on its own result. That is depth without further parameters "
        "to learn, and at this width it costs little time.",
        "-0.004 to 0.006",
        "val_bpb rises because each step is slower",
        (before(BLOCK_MLP, "        x = x + drop(0.5 * self.mlp(norm(x)), self.training)"),),
    ),
    Idea(
        "Adam without epsilon",
        "The epsilon of Adam only matters for gradients near zero, where it makes steps too small. Without it rare "
        "tokens should learn at the full rate.",
        "-0.002 to 0.001",
        "val_bpb is not lower",
        (
            instead(
                "            eps=1e-10, amsgrad=False, maximize=False, grad_scale=None, found_inf=None,",
                "            eps=0.0, amsgrad=False, maximize=False, grad_scale=None, found_inf=None,",
            ),
        ),
        fails="a token that was never seen has 0 / 0 as its step, so the loss is no number",
    ),
    Idea(
        "Average of the last fifth",
        "While the rate falls, the weights still jump around the valley. The mean over the last fifth of the "
        "steps should lie nearer to its floor than the last point.",
        "-0.006 to 0.002",
        "val_bpb is higher, because the rate has already fallen far and the mean is stale",
        (
            after(
                CLOCK,
                '\naveraged = [p for n, p in model.named_parameters() if n != "ngrams.weight"]\n'
                "sums, num_summed = [torch.zeros_like(p) for p in averaged], 0",
            ),
            before(
                REPORT,
                "    if clock.progress > 0.8 and clock.step % 5 == 0:\n"
                "        with torch.no_grad():\n"
                "            torch._foreach_add_(sums, averaged)\n"
                "        num_summed += 1",
            ),
            before(
                SCORE,
                "if num_summed:\n    for p, total in zip(averaged, sums, strict=True):\n"
                "        p.data.copy_(total / num_summed)\n",
            ),
        ),
    ),
    Idea(
        "Temperature for each head",
        "Normalised queries and keys have products within a fixed range, so no head can be sharp. A learned "
        "temperature for each head lets one copy exactly while the other averages.",
        "-0.005 to -0.001",
        NO_GAIN,
        (
            after(ATTENTION_PARTS, "        self.temperature = nn.Parameter(torch.ones(NUM_HEADS))"),
            after(SPLIT_QKV, "        q = q * self.temperature.view(NUM_HEADS, 1).to(q.dtype)"),
        ),
    ),
    Idea(
        "No soft cap",
        "The cap keeps scores within plus or minus 15, which a head trained for so few steps does not leave by itself. "
        "Without it the sure tokens can be surer, and a pass over the scores is saved.",
        "-0.004 to 0.004",
        "val_bpb rises, or the loss is less steady",
        (
            instead(
                "    return logits * torch.rsqrt(1 + (logits / SOFTCAP).square())  # between -SOFTCAP and SOFTCAP",
                "    return logits",
            ),
            instead(SLOPE, "            slope = torch.ones_like(logits)"),
        ),
    ),
    Idea(
        "Convolution over the embeddings",
        "Each channel of the stream gets learned shares of the two tokens before, in front of the block. Keys, queries "
        "and the MLP then all see short phrases.",
        "-0.006 to 0.000",
        NO_GAIN,
        (
            after(
                MODEL_PARTS,
                "        self.near = nn.Parameter(torch.zeros(MODEL_DIM))\n"
                "        self.far = nn.Parameter(torch.zeros(MODEL_DIM))",
            ),
            after(
                STREAM,
                "        near, far = F.pad(x[:, :-1], (0, 0, 1, 0)), F.pad(x[:, :-2], (0, 0, 2, 0))\n"
                "        x = x0 = x + self.near * near + self.far * far",
            ),
        ),
    ),
    Idea(
        "Fewer rounds of Newton-Schulz",
        "Three rounds instead of five give an orthogonal matrix that is rough but good enough for an update, and each "
        "step gets faster.",
        "-0.003 to 0.003",
        "val_bpb rises, or steps are not faster",
        (instead("    for a, b, c in POLAR_EXPRESS:", "    for a, b, c in POLAR_EXPRESS[:3]:"),),
    ),
    Idea(
        "Rotary base of 500",
        "Rows have 256 tokens, so the slow rotations of base 10,000 hardly turn and tell nothing. With base 500 "
        "all of them are of use.",
        "-0.003 to 0.001",
        NO_GAIN,
        (
            instead(
                "        cos, sin = rotary_table(MAX_SEQ_LEN, HEAD_DIM)",
                "        cos, sin = rotary_table(MAX_SEQ_LEN, HEAD_DIM, base=500.0)",
            ),
        ),
    ),
    Idea(
        "Slow head, fast block",
        "The matrices of the block cool down with the square of the schedule, so they settle early and the tables can "
        "fit what has settled.",
        "-0.003 to 0.004",
        "val_bpb rises: the block needs the large rates for longer",
        (
            instead(
                UPDATE,
                "        scale = learning_rate(clock.progress)\n"
                "        optimizer.step(scale**2 if isinstance(optimizer, Muon) else scale)",
            ),
        ),
    ),
    Idea(
        "Z-loss",
        "The logarithm of the sum of all exponentials is pulled to zero, weakly. Scores then cannot drift together, "
        "which softmax does not notice and the soft cap punishes.",
        "-0.001 to 0.002",
        "val_bpb is the same within the noise",
        (before(ONE_HOT, "            p *= 1 + 2e-4 * torch.logsumexp(logits, dim=-1, keepdim=True)"),),
    ),
    Idea(
        "Head reads the embedding too",
        "Before the last norm a learned share of the first embedding is added for each channel, so what the n-gram "
        "table knows reaches the head without loss.",
        "-0.004 to 0.000",
        NO_GAIN,
        (
            after(MODEL_PARTS, "        self.head_skip = nn.Parameter(torch.zeros(MODEL_DIM))"),
            before(LAST_NORM, "        x = x + self.head_skip * x0"),
        ),
    ),
    Idea(
        "Recurrence of the block",
        "The same block is passed twice, so the second pass can look up what the first has found. The parameters stay "
        "the same; a step takes about 1.5 times as long.",
        "-0.010 to 0.030",
        "val_bpb rises because there are fewer steps",
        (after(BLOCK_CALL, "            x = block(x + self.skip[i] * x0, idx, self.cos, self.sin)"),),
    ),
    Idea(
        "Cautious Muon",
        "Where an update and the present gradient differ in sign, the update would raise the loss now. Such numbers "
        "wait, and the others move a little further.",
        "-0.004 to 0.001",
        NO_GAIN,
        (
            after(
                ORTHOGONAL,
                "            agree = (updates * torch.stack([grad for _, grad, _ in group]) > 0).to(updates.dtype)\n"
                "            updates = updates * agree / agree.mean().clamp_min(0.1).sqrt()",
            ),
        ),
    ),
    Idea(
        "Token shift in the MLP",
        "The MLP sees one token alone. A learned share of the previous one in its input makes it see pairs, at the "
        "price of one pass over a small tensor.",
        "-0.005 to -0.001",
        NO_GAIN,
        (
            after(MLP_UP, "        self.shift = nn.Parameter(torch.zeros(MODEL_DIM))"),
            before(MLP_OUT, "        x = x + self.shift * (F.pad(x[:, :-1], (0, 0, 1, 0)) - x)"),
        ),
    ),
    Idea(
        "Alibi bias instead of a plain mask",
        "Near tokens matter more than far ones. A bias that falls with distance, faster in one head than in the other, "
        "gives that from the first step.",
        "-0.004 to 0.020",
        "val_bpb rises, because attention with a bias is slower and copying needs far tokens",
        (
            instead(
                ATTEND,
                "        apart = (torch.arange(T)[:, None] - torch.arange(T)).to(x.device)  # (T, T)\n"
                "        slopes = 2.0 ** -torch.arange(3, 3 + 3 * NUM_HEADS, 3, device=x.device)[:, None, None]\n"
                '        bias = (-slopes * apart).masked_fill(apart < 0, float("-inf")).to(q.dtype)\n'
                "        y = F.scaled_dot_product_attention(\n"
                "            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias[None]\n"
                "        )",
            ),
        ),
    ),
    Idea(
        "Small random output matrices",
        "The last matrices of the block are zero at first, so the first matrices have no gradient in the first step. A "
        "little noise there starts both at once.",
        "-0.001 to 0.001",
        "val_bpb is the same within the noise",
        (
            after(
                ZEROS,
                '            if name.endswith(("out.weight", "down.weight")):\n                p.normal_(std=0.01)',
            ),
        ),
    ),
    Idea(
        "Second hash for every n-gram",
        "Two pairs that share a row disturb each other. With a second, independent row for each n-gram, the sum "
        "of both rows is seldom shared.",
        "-0.006 to 0.000",
        "val_bpb is not lower: the table is large enough, or the look-ups cost more than they bring",
        (
            after(
                NGRAMS,
                "            other = F.pad(idx[:, :-1], (1, 0)) * 92_821 + idx * 68_917 + 1\n"
                "            others = torch.stack((other, other + F.pad(idx[:, :-2], (2, 0)) * 179_424_673))\n"
                "            x = x + self.ngrams(others % NGRAM_ROWS).sum(dim=0)",
            ),
        ),
    ),
    Idea(
        "Gated MLP without more weights",
        "Half of the hidden numbers gate the other half, as in GEGLU, which beats plain units in most comparisons. The "
        "matrices keep their sizes.",
        "-0.006 to 0.000",
        NO_GAIN,
        (
            instead(
                MLP_OUT,
                "        a, b = self.up(x).chunk(2, dim=-1)\n        return self.down(F.gelu(a) * b)",
            ),
        ),
        fails="the hidden numbers that are left are half as many as the next matrix takes",
    ),
    Idea(
        "No Nesterov in Muon",
        "The look ahead mixes the fresh gradient into the update, which is noisy with 1024 tokens a step. The momentum "
        "alone is smoother.",
        "-0.003 to 0.003",
        "val_bpb rises",
        (
            instead(
                "        torch._foreach_lerp_(grads, self.momentum, MUON_MOMENTUM)  # Nesterov: look one step ahead",
                "        grads = self.momentum",
            ),
        ),
    ),
    Idea(
        "Norm of the values",
        "Queries and keys have a fixed length and values do not, so a few large values dominate the mean. With the "
        "same norm all tokens have an equal voice.",
        "-0.003 to 0.003",
        "val_bpb rises",
        (after(SPLIT_QKV, "        v = norm(v).to(q.dtype)"),),
    ),
    Idea(
        "Short rows at first",
        "Early on the model learns neighbours only, for which 128 tokens of context are plenty. Each row is cut in two "
        "for the first third of the budget, which makes attention cheaper.",
        "-0.003 to 0.005",
        "val_bpb rises, because copying from further back is learned later",
        (
            before(
                PASS,
                "        if clock.progress < 0.33:\n"
                "            x, y = x.reshape(2 * x.size(0), -1), y.reshape(2 * y.size(0), -1)",
            ),
        ),
    ),
    Idea(
        "Unigram bias of the head",
        "The head has to learn by many steps how frequent each token is. A bias from counts of the first eight batches "
        "gives that before the first step.",
        "-0.006 to 0.000",
        "val_bpb is the same at the end, because frequencies are learned within fifty steps",
        (
            instead(MODEL_PARTS, "        self.head = nn.Linear(MODEL_DIM + 1, vocab_size, bias=False)"),
            instead(LAST_NORM, "        return F.pad(norm(x), (0, 1), value=1.0)"),
            after(
                CLOCK,
                "counts = torch.full((vocab_size,), 0.5)\n"
                "for _ in range(8):\n"
                "    counts += torch.bincount(next(batches)[1].flatten().cpu(), minlength=vocab_size)\n"
                "model.head.weight.data[:, -1] = (counts.log() - counts.log().mean()).to(device)",
            ),
        ),
    ),
    Idea(
        "Row-wise norm of Muon's updates",
        "An orthogonal matrix that is a little off has rows of unequal length. Each row of an update is scaled to the "
        "mean length, as in NorMuon, so that every neuron learns equally fast.",
        "-0.003 to 0.001",
        NO_GAIN,
        (
            after(
                ORTHOGONAL,
                "            lengths = updates.norm(dim=2, keepdim=True)\n"
                "            updates = updates * (lengths.mean(dim=1, keepdim=True) / (lengths + 1e-6))",
            ),
        ),
    ),
    Idea(
        "GELU",
        "A smooth function has a gradient for negative inputs too, so no hidden number is ever dead.",
        "0.000 to 0.006",
        "val_bpb falls: then smoothness matters more than speed",
        (instead(MLP_OUT, "        return self.down(F.gelu(self.up(x)))"),),
    ),
    Idea(
        "Keys from two tokens before",
        "A key that says which two tokens stood before finds the repetition of a whole phrase and not only that of one "
        "token. The share of the older one begins at zero.",
        "-0.015 to -0.003",
        NO_GAIN,
        (
            after(ATTENTION_PARTS, "        self.older_share = nn.Parameter(torch.zeros(width))"),
            after(
                SPLIT_KEYS,
                "            k_before = F.pad(k[:, :-1], (0, 0, 0, 0, 1, 0))\n"
                "            k = k + self.older_share.view(NUM_HEADS, HEAD_DIM) * k_before",
            ),
        ),
    ),
    Idea(
        "Queries from two tokens",
        "A query that also holds the previous token can ask for what followed this pair. Together with the shifted key "
        "that is an exact look-up of phrases.",
        "-0.015 to -0.003",
        NO_GAIN,
        (
            after(ATTENTION_PARTS, "        self.query_shift = nn.Parameter(torch.zeros(width))"),
            after(
                SPLIT_KEYS,
                "            q_before = F.pad(q[:, :-1], (0, 0, 0, 0, 1, 0))\n"
                "            q = q + self.query_shift.view(NUM_HEADS, HEAD_DIM) * q_before",
            ),
        ),
    ),
    Idea(
        "Moving average of the weights",
        "An exponential mean of the weights over some hundred steps filters the noise of small batches. It replaces "
        "the weights at the end.",
        "-0.005 to 0.010",
        "val_bpb is higher, because the mean lags behind while the rate falls",
        (
            after(
                CLOCK,
                '\nfollowed = [p for n, p in model.named_parameters() if n != "ngrams.weight"]\n'
                "means = [p.detach().clone() for p in followed]",
            ),
            before(
                REPORT,
                "    if clock.step % 4 == 0:\n"
                "        with torch.no_grad():\n"
                "            torch._foreach_lerp_(means, followed, 0.1)",
            ),
            before(
                SCORE,
                "for p, mean in zip(followed, means, strict=True):\n    p.data.copy_(mean)\n",
            ),
        ),
    ),
    Idea(
        "Loss on hard tokens",
        "Tokens that are already predicted with near certainty teach nothing. The gradient of each token is "
        "weighted by how wrong it was, in the manner of the focal loss.",
        "0.000 to 0.020",
        "val_bpb falls: then easy tokens did waste the steps",
        (
            instead(
                ONE_HOT,
                "            weight = 1.4 - p.gather(1, target[:, None])\n"
                "            p[torch.arange(len(target)), target] -= 1\n"
                "            p *= weight",
            ),
        ),
    ),
    Idea(
        "Norm of embeddings before n-grams",
        "Token embeddings start with length 11 and n-gram rows with zero, and the first can grow without bound. If "
        "the embedding is normalised first, the rows of the table keep their weight.",
        "-0.004 to 0.002",
        NO_GAIN,
        (after(EMBEDDED, "        x = norm(x)"),),
    ),
    Idea(
        "Noise on the embeddings",
        "A little noise on the embeddings while training makes similar tokens share what they know, as dropout does, "
        "without losing any number.",
        "-0.001 to 0.008",
        "val_bpb is lower: then the model did overfit within one epoch",
        (after(EMBEDDED, "        x = x + 0.1 * torch.randn_like(x) if self.training else x"),),
    ),
    Idea(
        "SwiGLU",
        "A gate of its own makes the MLP multiply two views of a token, which needs fewer steps for the same loss in "
        "most published comparisons. It costs one more matrix.",
        "-0.004 to 0.006",
        "val_bpb rises because steps are slower",
        (
            after(MLP_UP, "        self.gate_up = nn.Linear(MODEL_DIM, MLP_RATIO * MODEL_DIM, bias=False)"),
            instead(MLP_OUT, "        return self.down(F.silu(self.gate_up(x)) * self.up(x))"),
        ),
    ),
    Idea(
        "Bag of the words so far",
        "What a text is about can be told from the mean of all embeddings so far. A learned share of it "
        "reaches the head, so frequent words of this row become likelier.",
        "-0.008 to 0.000",
        NO_GAIN,
        (
            after(MODEL_PARTS, "        self.bag = nn.Parameter(torch.zeros(MODEL_DIM))"),
            before(
                LAST_NORM,
                "        so_far = torch.arange(1, idx.size(1) + 1, device=idx.device)[:, None]\n"
                "        x = x + self.bag * (x0.cumsum(dim=1) / so_far)",
            ),
        ),
    ),
    Idea(
        "Next but one token as well",
        "If the vector of a token also has to predict the token after the next, it holds more of what the text is "
        "about. The second guess goes through a matrix of its own and the same head.",
        "-0.005 to 0.020",
        "val_bpb rises, because the second pass through the head makes steps much slower",
        (
            after(MODEL_PARTS, "        self.ahead_up = nn.Linear(MODEL_DIM, MODEL_DIM, bias=False)"),
            after(
                LOSS_ON_CPU,
                "            h = self.hidden(idx)\n"
                "            second = self.ahead_up(h[:, :-1]).flatten(0, 1)\n"
                "            ahead = HeadLoss.apply(second, self.head.weight, targets[:, 1:].flatten())\n"
                "            first = HeadLoss.apply(h.flatten(0, 1), self.head.weight, targets.flatten())\n"
                "            return first + 0.2 * (ahead - ahead.detach())",
            ),
        ),
    ),
    Idea(
        "Each head orthogonalised alone",
        "Muon makes the queries of all heads orthogonal together, so heads compete. If every head is a matrix of its "
        "own, each moves equally fast.",
        "-0.003 to 0.003",
        "val_bpb rises or is the same",
        (
            instead(
                '    Muon(block_matrices, [3 if "qkv" in n else 1 for n in matrices], MATRIX_LR)',
                '    Muon(block_matrices, [3 * NUM_HEADS if "qkv" in n else 1 for n in matrices], MATRIX_LR)',
            ),
        ),
    ),
    Idea(
        "N-gram table keeps learning",
        "Rows of rare n-grams are met for the first time near the end, when the rate is almost zero. The rate of "
        "this table does not fall below a third.",
        "-0.006 to 0.003",
        "val_bpb rises, because frequent rows need the small rates",
        (before(ADAGRAD_ROWS, "        scale = max(scale, 0.33)"),),
    ),
    Idea(
        "Half rotary",
        "Only half of the numbers of a key are turned by its position. The other half compares contents at any "
        "distance without disturbance.",
        "-0.003 to 0.001",
        NO_GAIN,
        (
            before(
                "    angle = torch.arange(length)[:, None] * frequency  # (length, head_dim / 2)",
                "    frequency = frequency * (torch.arange(head_dim // 2) < head_dim // 4)",
            ),
        ),
    ),
    Idea(
        "Lion for the head",
        "The sign of a momentum is a cheaper step than Adam's, and for a matrix of which every row gets gradients in "
        "each step it is said to be as good.",
        "-0.002 to 0.010",
        "val_bpb rises",
        (
            before(
                "named = dict(model.named_parameters())",
                "class Lion:\n"
                "    def __init__(self, params: list[torch.Tensor], lr: float):\n"
                "        self.params, self.lr = params, lr\n"
                "        self.mean = [torch.zeros_like(p) for p in params]\n\n"
                "    @torch.no_grad()\n"
                "    def step(self, scale: float) -> None:\n"
                "        for p, mean in zip(self.params, self.mean, strict=True):\n"
                "            p.add_(torch.lerp(mean, p.grad, 0.1).sign_(), alpha=-self.lr * scale)\n"
                "            mean.lerp_(p.grad, 0.02)\n\n",
            ),
            instead(HEAD_ADAM, "    Lion([model.head.weight], HEAD_LR / 5),"),
        ),
    ),
    Idea(
        "Exclusive attention",
        "What attention returns along a token's own value is known to the stream already. That part is taken out, so "
        "the output holds only what comes from others.",
        "-0.004 to 0.002",
        NO_GAIN,
        (
            before(
                ATTENTION_OUT,
                "        own = F.normalize(v.transpose(1, 2), dim=-1)\n"
                "        y = y - (y * own).sum(dim=-1, keepdim=True) * own",
            ),
        ),
    ),
    Idea(
        "Tied head",
        "One table for both ends halves what has to be learned about each token, as is usual for small models.",
        "-0.005 to 0.030",
        "val_bpb rises: pairs are not symmetric, so both ends need tables of their own",
        (
            after(MODEL_PARTS, "        self.head.weight = self.embedding.weight"),
            instead("            p.normal_()", "            p.normal_(std=0.02)"),
            instead(
                EMBEDDING_ADAM,
                '    AdamW([p for n, p in named.items() if n.endswith("value_embedding.weight")], EMBEDDING_LR),',
            ),
        ),
    ),
    Idea(
        "Warm-up for the n-gram table",
        "The first step of Adagrad for a row is as large as all later ones can be, whatever its gradient was. "
        "Smaller steps for the first hundred updates should keep early noise out of the table.",
        "-0.003 to 0.003",
        "val_bpb is not lower",
        (
            after("        self.param, self.lr = param, lr", "        self.num_steps = 0"),
            before(
                ADAGRAD_ROWS,
                "        self.num_steps += 1\n        scale = scale * min(1.0, self.num_steps / 100)",
            ),
        ),
    ),
    Idea(
        "Learned scale of the last norm",
        "Each channel of the vector that the head reads gets a learned factor, so that the head need not scale its "
        "columns by itself.",
        "-0.002 to 0.001",
        "val_bpb is the same within the noise",
        (
            after(MODEL_PARTS, "        self.last_scale = nn.Parameter(torch.ones(MODEL_DIM))"),
            instead(LAST_NORM, "        return norm(x) * self.last_scale"),
        ),
    ),
    Idea(
        "Post-norm between the two halves",
        "A norm on the stream itself between attention and MLP keeps it from growing, so that both halves of the block "
        "write with equal weight.",
        "-0.002 to 0.004",
        "val_bpb rises",
        (after(BLOCK_ATTENTION, "        x = norm(x)"),),
    ),
    Idea(
        "Adagrad with a short memory",
        "The sum of squares only grows, so the frequent rows stop learning half-way. If it decays by a hundredth each "
        "time a row is seen, they go on.",
        "-0.004 to 0.004",
        "val_bpb rises: the falling steps were right for them",
        (before(ADAGRAD_SQUARES, "        self.squares[rows] *= 0.99"),),
    ),
    Idea(
        "Stochastic depth of the MLP",
        "In a quarter of the steps the MLP is skipped. Attention then learns not to rely on it, and these steps are "
        "faster.",
        "-0.003 to 0.006",
        "val_bpb rises",
        (before(BLOCK_MLP, "        if self.training and torch.rand(()) < 0.25:\n            return x"),),
        fails="a step without the MLP leaves its matrices without a gradient, which Muon does not expect",
    ),
    Idea(
        "Adagrad for each number",
        "One sum of squares for a whole row treats its loud and its quiet channels alike. With one for each number all "
        "of them learn, at the price of more memory traffic.",
        "-0.003 to 0.005",
        "val_bpb rises, or steps are slower",
        (
            instead(
                "        self.squares = torch.zeros_like(param[:, :1])",
                "        self.squares = torch.zeros_like(param)",
            ),
            instead(ADAGRAD_SQUARES, "        self.squares[rows] += grad.square()"),
        ),
    ),
    Idea(
        "Fall by one minus the root",
        "The fall of 1 minus the square root of its progress drops fast and then lingers at small rates, which was the "
        "best of several shapes in studies of cooldowns.",
        "-0.005 to 0.003",
        "val_bpb rises, because the time at large rates is too short",
        (after(FALL, "    fall = 1 - math.sqrt(max(0.0, 1 - max(0.0, min(1.0, fall))))"),),
    ),
    Idea(
        "Mean of the values so far",
        "One more output of each head is the plain mean of all earlier values, in a learned share. Attention would "
        "have to learn equal weights to get it.",
        "-0.003 to 0.001",
        NO_GAIN,
        (
            after(ATTENTION_PARTS, "        self.past = nn.Parameter(torch.zeros(width))"),
            before(
                ATTENTION_OUT,
                "        mean = v.transpose(1, 2).cumsum(dim=2) / torch.arange(1, T + 1, device=v.device)[:, None]\n"
                "        y = y + self.past.view(NUM_HEADS, 1, HEAD_DIM).to(y.dtype) * mean.to(y.dtype)",
            ),
        ),
    ),
    Idea(
        "Windowed attention",
        "Most of what helps stands within 64 tokens. A window keeps distant noise out of the mean.",
        "-0.002 to 0.015",
        "val_bpb rises: what was named once is named again much later",
        (
            instead(
                ATTEND,
                "        apart = (torch.arange(T)[:, None] - torch.arange(T)).to(x.device)  # (T, T)\n"
                "        y = F.scaled_dot_product_attention(\n"
                "            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), "
                "attn_mask=(apart >= 0) & (apart < 64)\n"
                "        )",
            ),
        ),
    ),
    Idea(
        "Queries grow with position",
        "The more tokens a row has, the flatter softmax gets. Queries that grow with the logarithm of their "
        "position keep it as sharp at the end as at the beginning.",
        "-0.004 to 0.001",
        NO_GAIN,
        (
            after(
                SPLIT_QKV,
                "        growth = 0.5 + torch.arange(1, T + 1, device=q.device).log() / math.log(64)\n"
                "        q = q * growth[:, None, None].to(q.dtype)",
            ),
        ),
    ),
    Idea(
        "No loss on the first tokens",
        "The first eight tokens of a row have no context, so their loss is large and teaches only frequencies. Leaving "
        "them out saves a thirtieth of the head's work.",
        "-0.001 to 0.004",
        "val_bpb rises: validation scores these tokens as well",
        (
            instead(
                HEAD_LOSS,
                "            h, wanted = self.hidden(idx)[:, 8:], targets[:, 8:]\n"
                "            return HeadLoss.apply(h.flatten(0, 1), self.head.weight, wanted.flatten())",
            ),
        ),
    ),
    Idea(
        "Orthogonal starting matrices",
        "Muon keeps updates orthogonal and the random start is not. With an orthogonal start all directions are "
        "equally strong from the beginning.",
        "-0.002 to 0.001",
        "val_bpb is the same within the noise",
        (instead(UNIFORM, "            nn.init.orthogonal_(p, gain=math.sqrt(max(1.0, p.size(0) / p.size(1))))"),),
    ),
    Idea(
        "A running state, token by token",
        "A decaying sum of the values, carried from token to token as in a recurrent network, remembers what attention "
        "has to look up. It is written as a plain loop over the row.",
        "-0.010 to 0.050",
        "val_bpb rises, because a Python loop over 256 tokens makes every step several times slower",
        (
            after(MODEL_PARTS, "        self.memory = nn.Parameter(torch.zeros(MODEL_DIM))"),
            before(
                LAST_NORM,
                "        state, states = torch.zeros_like(x0[:, 0]), []\n"
                "        for token in x0.unbind(dim=1):\n"
                "            state = 0.9 * state + 0.1 * token\n"
                "            states.append(state)\n"
                "        x = x + self.memory * torch.stack(states, dim=1)",
            ),
        ),
    ),
    Idea(
        "Value of the previous token's table",
        "Value embeddings are looked up by the token itself. A learned share of the row of the previous token lets "
        "a head return pairs.",
        "-0.003 to 0.001",
        NO_GAIN,
        (
            after(ATTENTION_PARTS, "        self.previous_value = nn.Parameter(torch.zeros(width))"),
            after(
                "            v = v + gate[..., None] * self.value_embedding(idx).view(v.shape).to(v.dtype)",
                "            looked_up = self.value_embedding(F.pad(idx[:, :-1], (1, 0)))\n"
                "            v = v + (self.previous_value * looked_up).view(v.shape).to(v.dtype)",
            ),
        ),
    ),
    Idea(
        "Muon for the head",
        "The head is a matrix as well, and orthogonal updates would serve rare and frequent tokens alike.",
        "-0.005 to 0.050",
        "val_bpb rises: rows of frequent tokens need larger steps than rows of rare ones",
        (instead(HEAD_ADAM, "    Muon([model.head.weight], [1], MATRIX_LR),"),),
    ),
    Idea(
        "Learned embedding of the position",
        "The first token of a row is predicted without context and others with much. A learned vector for each "
        "position tells the block how much context there is.",
        "0.000 to 0.005",
        "val_bpb falls",
        (
            after(MODEL_PARTS, "        self.position_embedding = nn.Embedding(MAX_SEQ_LEN, MODEL_DIM)"),
            after(
                EMBEDDED,
                "        x = x + self.position_embedding(torch.arange(idx.size(1), device=idx.device))",
            ),
        ),
    ),
    Idea(
        "Cap by the hyperbolic tangent",
        "The hyperbolic tangent is flatter near its ends and straighter in the middle than the present cap, so "
        "scores of usual size are not bent.",
        "-0.002 to 0.004",
        "val_bpb is the same, and the tangent takes longer to compute",
        (
            instead(
                "    return logits * torch.rsqrt(1 + (logits / SOFTCAP).square())  # between -SOFTCAP and SOFTCAP",
                "    return SOFTCAP * torch.tanh(logits / SOFTCAP)",
            ),
            instead(
                SLOPE,
                "            capped = torch.tanh(logits / SOFTCAP)\n            slope = 1 - capped.square()",
            ),
            instead(SOFTMAX, "            p = torch.softmax(SOFTCAP * capped, dim=-1)"),
            instead(
                "            dlogits = p.mul_(slope.pow_(3)).to(dtype)", "            dlogits = p.mul_(slope).to(dtype)"
            ),
        ),
    ),
    Idea(
        "Momentum of Muon warms up",
        "A long memory is of no use while the gradients change fast. The momentum rises from 0.85 within the first "
        "300 steps.",
        "-0.003 to 0.001",
        NO_GAIN,
        (
            after("        self.params, self.parts, self.lr = params, parts, lr", "        self.num_steps = 0"),
            instead(
                "        torch._foreach_lerp_(self.momentum, grads, 1 - MUON_MOMENTUM)",
                "        self.num_steps += 1\n"
                "        momentum = MUON_MOMENTUM - max(0.0, 0.1 - self.num_steps / 3000)\n"
                "        torch._foreach_lerp_(self.momentum, grads, 1 - momentum)",
            ),
        ),
    ),
    Idea(
        "Better mixing of the hash",
        "The hash is a sum of products, so n-grams with similar numbers land in rows that follow a pattern. Shifting "
        "and multiplying once more spreads them evenly.",
        "-0.002 to 0.001",
        "val_bpb is the same: the rows were spread well enough",
        (
            before(
                NGRAM_ROWS,
                "    pair, triple = ((h ^ (h >> 13)) * 40_503 for h in (pair, triple))\n"
                "    pair, triple = pair ^ (pair >> 11), triple ^ (triple >> 11)",
            ),
        ),
    ),
    Idea(
        "No QK norm",
        "With free lengths, a token can decide how loudly it asks and answers, which the norm forbids.",
        "-0.002 to 0.015",
        "val_bpb rises",
        (
            instead(
                ROTATED,
                "        qk = rotate(qk, cos[:T], sin[:T]).to(qkv.dtype)  # (B, T, 2, heads, head_dim)",
            ),
        ),
    ),
    Idea(
        "Pull of the head to zero",
        "Rows of the head for rare tokens are noise from few gradients. A weight decay makes them forget it.",
        "-0.001 to 0.003",
        "val_bpb is the same within the noise",
        (instead(HEAD_ADAM, "    AdamW([model.head.weight], HEAD_LR, weight_decay=0.05),"),),
    ),
    Idea(
        "MLP in front of attention",
        "Keys and queries are linear in the embedding. A first MLP in front lets them be made of what the "
        "n-grams mean, at the price of slower steps.",
        "-0.004 to 0.010",
        "val_bpb rises because there are fewer steps",
        (
            after(BLOCK_PARTS, "        self.first = MLP()"),
            before(BLOCK_ATTENTION, "        x = x + drop(self.first(norm(x)), self.training)"),
        ),
    ),
    Idea(
        "Attention without positions",
        "Keys made from the token before already tell the order, so the rotation may only disturb. Without it a "
        "match counts the same at every distance.",
        "-0.003 to 0.010",
        "val_bpb rises: near matches are better than far ones",
        (
            before(
                "    return angle.cos()[:, None, None, :], angle.sin()[:, None, None, :]"
                "  # each (length, 1, 1, head_dim / 2)",
                "    angle = torch.zeros_like(angle)",
            ),
        ),
    ),
    Idea(
        "Copy from earlier in the row",
        "Names come again within a row. Earlier tokens that stood after something similar add to the scores of the "
        "same token directly, as in a pointer network.",
        "-0.020 to 0.060",
        "val_bpb rises, because the scores no longer fit the cache and steps are much slower",
        (
            after(MODEL_PARTS, "        self.copy_scale = nn.Parameter(torch.ones(1))"),
            instead(
                LOGITS,
                "        h = self.hidden(idx)\n"
                "        T = idx.size(1)\n"
                "        earlier = torch.ones(T, T - 1, dtype=torch.bool, device=idx.device).tril(-1)\n"
                "        alike = (h @ h[:, :-1].mT).float() / MODEL_DIM**0.5\n"
                "        weight = alike.masked_fill(~earlier, -1e9).softmax(dim=-1) * earlier  # (B, T, T - 1)\n"
                "        scores = self.head(h).float()\n"
                "        following = idx[:, None, 1:].expand_as(weight)\n"
                "        scores = scores.scatter_add(2, following, self.copy_scale * weight)\n"
                "        return softcap(scores)  # (B, T, vocab_size)",
            ),
            instead(LOSS_ON_CPU, '        if on_cpu and not hasattr(self, "copy_scale"):'),
        ),
    ),
    Idea(
        "Embeddings by Adagrad",
        "Adam moves the embedding of a rare token on for many steps after it was seen. Adagrad for each row moves it "
        "only when it is seen, and less the more often that was.",
        "-0.005 to 0.020",
        "val_bpb rises",
        (
            instead(
                EMBEDDING_ADAM,
                '    *(RowAdagrad(p, EMBEDDING_LR) for n, p in named.items() if n.endswith("embedding.weight")),',
            ),
        ),
    ),
    Idea(
        "Table of all pairs for the head",
        "A full table with a row of scores for each token is added to the logits. What is known about pairs then needs "
        "no width of the model at all.",
        "-0.005 to 0.100",
        "val_bpb rises, because a dense table of four million numbers is read and written in each step",
        (
            after(MODEL_PARTS, "        self.pair_embedding = nn.Embedding(vocab_size, vocab_size)"),
            instead(
                LOGITS,
                "        return softcap((self.head(self.hidden(idx)) + 0.1 * self.pair_embedding(idx)).float())",
            ),
            instead(LOSS_ON_CPU, '        if on_cpu and not hasattr(self, "pair_embedding"):'),
        ),
    ),
    Idea(
        "Separate rows for pairs and triples",
        "Triples are many and fill the table, so every pair shares its row with some. With one half for each kind the "
        "pairs are left alone.",
        "-0.004 to 0.002",
        "val_bpb rises: half of the rows is too little for the triples",
        (
            instead(
                NGRAM_ROWS,
                "    half = NGRAM_ROWS // 2\n    return torch.stack((pair % half, half + triple % half))",
            ),
        ),
    ),
    Idea(
        "Gate on the n-gram rows",
        "A row of the table is worth much after some tokens and nothing after others. A learned gate for each "
        "token decides how much of it is let in.",
        "-0.004 to 0.001",
        NO_GAIN,
        (
            after(MODEL_PARTS, "        self.ngram_value_gate = nn.Linear(32, 1, bias=False)"),
            instead(
                NGRAMS,
                "            let_in = 2 * torch.sigmoid(self.ngram_value_gate(x[..., :32]))  # (B, T, 1)\n"
                "            x = x + let_in * self.ngrams(ngram_rows(idx)).sum(dim=0)",
            ),
        ),
    ),
    Idea(
        "Rows of the table are dropped",
        "In training one n-gram in ten is not looked up, so that the block learns to do without it. It has to, where a "
        "phrase of the validation text is new.",
        "-0.006 to 0.003",
        "val_bpb rises",
        (
            instead(
                NGRAMS,
                "            looked_up = self.ngrams(ngram_rows(idx))  # (2, B, T, model_dim)\n"
                "            if self.training:\n"
                "                looked_up = looked_up * (torch.rand_like(looked_up[..., :1]) > 0.1)\n"
                "            x = x + looked_up.sum(dim=0)",
            ),
        ),
    ),
    Idea(
        "Small noise in the n-gram table",
        "Rows that start at zero look alike until they are learned. A little noise tells n-grams apart from the first "
        "step.",
        "-0.001 to 0.003",
        "val_bpb is the same within the noise",
        (after(ZEROS, '            if name == "ngrams.weight":\n                p.normal_(std=0.05)'),),
    ),
    Idea(
        "Smaller embeddings at first",
        "Embeddings start with numbers of size one, so that the rows of the n-gram table need many steps to matter "
        "beside them. A third of the size gives both an equal start.",
        "-0.004 to 0.002",
        NO_GAIN,
        (instead("            p.normal_()", "            p.normal_(std=0.33)"),),
    ),
    Idea(
        "Fewer looks at the clock",
        "Asking the clock costs time in each step. It is asked at every 64th step only.",
        "-0.001 to 0.000",
        "steps are not faster",
        (
            instead(
                RUNNING,
                "num_steps = 0\nwhile num_steps % 64 != 0 or clock.running():\n    num_steps += 1",
            ),
        ),
    ),
    Idea(
        "Sink for attention",
        "A key of zeros with a value of zeros takes the weight that a head does not want to give to any token.",
        "-0.003 to 0.010",
        "val_bpb rises, because attention with a mask of its own is slower",
        (
            instead(
                ATTEND,
                "        k, v = F.pad(k, (0, 0, 0, 0, 1, 0)), F.pad(v, (0, 0, 0, 0, 1, 0))\n"
                "        seen = torch.ones(T, T + 1, dtype=torch.bool, device=x.device).tril(1)\n"
                "        y = F.scaled_dot_product_attention(\n"
                "            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)[:, :, -T - 1 :], attn_mask=seen\n"
                "        )",
            ),
        ),
    ),
    Idea(
        "Thresholds in the MLP",
        "With a learned bias, each hidden number can choose the strength at which it begins to speak.",
        "-0.001 to 0.001",
        "val_bpb is the same within the noise",
        (instead(MLP_UP, "        self.up = nn.Linear(MODEL_DIM, MLP_RATIO * MODEL_DIM, bias=True)"),),
    ),
    Idea(
        "Scale of the skip for each channel",
        "The share of the first embedding in the input of the block is one number. With one for each channel, those of "
        "no further use can be left behind.",
        "-0.001 to 0.001",
        "val_bpb is the same within the noise",
        (
            after(MODEL_PARTS, "        self.skip_scale = nn.Parameter(torch.ones(MODEL_DIM))"),
            after(STREAM, "        x0 = x0 * self.skip_scale"),
        ),
    ),
    Idea(
        "Head starts at zero",
        "The first loss is then exactly that of a uniform guess, and no noise of the head reaches the stream.",
        "-0.001 to 0.001",
        "val_bpb is the same within the noise",
        (instead("            p.normal_(std=0.001)", "            p.zero_()  # the head"),),
    ),
    Idea(
        "Head in one piece",
        "Chunks of 256 tokens mean four calls in each pass. All tokens at once save the calls, if the scores still fit "
        "the cache.",
        "-0.002 to 0.010",
        "steps are slower",
        (instead("HEAD_CHUNK = 256  # tokens", "HEAD_CHUNK = max(256, rows * sequence_length)  # all of a pass"),),
    ),
    Idea(
        "Attention and MLP side by side",
        "Both halves of the block read the same input, so one norm is saved and neither waits for the other.",
        "0.000 to 0.010",
        "val_bpb falls",
        (
            instead(
                BLOCK_ATTENTION,
                "        z = norm(x)\n        x = x + drop(self.attention(z, idx, cos, sin), self.training)",
            ),
            instead(BLOCK_MLP, "        return x + drop(self.mlp(z), self.training)"),
        ),
    ),
)


# What a prompt says


def train_source_of(prompt: str) -> str:
    """The train.py that the prompt asks to change; "" where there is none."""
    found = re.search(
        r"^# The incumbent: train\.py[^\n]*\n\n(`{3,})python\n(.*?)\n\1$", prompt, re.DOTALL | re.MULTILINE
    )
    return found[2] + "\n" if found else ""


def proposed_in(prompt: str, ideas: Sequence[Idea] = IDEAS) -> set[int]:
    """The numbers, from 1, of the ideas that the history in the prompt or the notes in it name."""
    history = prompt.replace(train_source_of(prompt), "")
    noted = (numbers_in(words) for words in re.findall(rf"{re.escape(NOTES)} ([\d, -]+)", history))
    titled = {number for number, idea in enumerate(ideas, 1) if f"{idea.title}:" in history}
    return titled.union(*noted)


def numbers_in(words: str) -> set[int]:
    """`1-3, 7` as {1, 2, 3, 7}"""
    numbers: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", words):
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def in_words(numbers: Iterable[int]) -> str:
    """{1, 2, 3, 7} as `1-3, 7`"""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


# What is answered


def places(source: str, search: str) -> int:
    """How often the lines of `search` stand in `source`, as whole lines."""
    return f"\n{source}".count(f"\n{search}\n")


def fits(idea: Idea, source: str) -> bool:
    return all(places(source, edit.search) == 1 for edit in idea.edits)


def applied(idea: Idea, source: str) -> str:
    """`source` with the idea, which has to fit."""
    for edit in idea.edits:
        if places(source, edit.search) != 1:
            raise ValueError(f"{idea.title}: these lines do not stand in train.py exactly once:\n{edit.search}")
        source = f"\n{source}".replace(f"\n{edit.search}\n", f"\n{edit.replace}\n")[1:]
    return source


def reply_to(prompt: str, ideas: Sequence[Idea] = IDEAS) -> str:
    """The proposal of the first idea that is new and fits, or a reply without an edit."""
    source = train_source_of(prompt)
    if not source:
        return "The prompt holds no train.py in the form that I know, so I propose nothing.\n"
    proposed = proposed_in(prompt, ideas)
    for number, idea in enumerate(ideas, 1):
        if number not in proposed and fits(idea, source):
            return proposal(idea, proposed | {number})
    return (
        f"I have no idea left: of {len(ideas)}, {len(proposed)} were proposed, and the others no longer fit train.py.\n"
    )


def proposal(idea: Idea, proposed: Iterable[int]) -> str:
    blocks = (f"<<<<<<< SEARCH\n{edit.search}\n=======\n{edit.replace}\n>>>>>>> REPLACE" for edit in idea.edits)
    reasons = f"HYPOTHESIS: {idea.title}: {idea.why}\nEXPECTED: {idea.expected_bpb}\nREFUTED BY: {idea.refuted_by}."
    notes = f"<notes>\n{NOTES} {in_words(proposed)}.\n</notes>"
    return "\n\n".join([reasons, *blocks, notes]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model: it answers the prompt on standard input.")
    parser.add_argument("--list", action="store_true", help="print the ideas instead")
    parser.add_argument("--apply", nargs=2, metavar=("NUMBER", "FILE"), help="print FILE with this idea instead")
    arguments = parser.parse_args()
    if arguments.list:
        for number, idea in enumerate(IDEAS, 1):
            print(f"{number:3} {idea.title}" + (f" (fails: {idea.fails})" if idea.fails else ""))
    elif arguments.apply:
        print(applied(IDEAS[int(arguments.apply[0]) - 1], Path(arguments.apply[1]).read_text(encoding="utf-8")), end="")
    else:
        sys.stdout.write(reply_to(sys.stdin.read()))


if __name__ == "__main__":
    main()
