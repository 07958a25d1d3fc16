# %% [markdown]
# # Lesson 1: Bits per byte
#
# You build models of text by hand, from counting letters to a trained network, and measure all of them with one
# number: bits per byte. This number decides every experiment of this project.
#
# **Time:** 40 minutes. **Compute:** about one minute on two cores. **Needs:** Python, and nothing else. Nothing leaves
# this machine.
#
# Each exercise asks for a prediction first. Replace the three dots of its `predict` cell by a number (with a decimal
# point, as in 2.5), or by words in quotation marks, and run the cell: a wrong guess teaches more than no guess. Then
# write your answer in place of the line that begins with `raise`. Where a line such as `best_length = ...` stands above
# it, write your answer in place of both. Run this cell, and after it the cell with `check`, which says what is right or
# what is wrong. Two hints are folded below each exercise, and the solution too, unless this is a notebook of a class.

# %%
import math
from collections import Counter

from autoresearch_kernel.lab.lessons import check, lesson_seconds, predict, progress
from autoresearch_kernel.lab.lessons.figures import ladder, lengths
from autoresearch_kernel.lab.lessons.text_models import Counted, by_length, lesson_text
from autoresearch_kernel.lab.lessons.training import train_by_hand

# %% [markdown]
# ## A model that guesses
#
# A language model reads some text and says how likely each next letter is. A good model is seldom surprised. So a
# model is measured by its surprise.
#
# ### Exercise 1.1 · The surprise of one letter
#
# ★☆☆ · 3 minutes
#
# The *surprise* of a letter is counted in bits: 1 bit for a letter of probability one half, 2 bits for one quarter,
# 3 bits for one eighth. Write the function `surprise(p)`.
#
# **Predict first:** how many bits does a letter of probability 1/1000 cost?

# %%
predict("surprise", ...)


# %% nbgrader={"grade_id": "surprise", "solution": true}
def surprise(p):
    """Bits that a letter of probability p costs."""
    ### BEGIN SOLUTION
    return -math.log2(p)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-surprise", "grade": true, "locked": true, "points": 1}
check("surprise", surprise)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How often must 1 be halved until it is `p`? A function of the module `math` counts halvings.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `math.log2(1 / 8)` is −3. A surprise is positive.
#
# </details>

# %% [markdown] tags=["solution"]
# The logarithm to base 2 counts halvings. A probability is at most 1, so its logarithm is never positive, and the
# minus makes the surprise positive. A letter of probability 1/1000 costs 9.97 bits, because 2¹⁰ is 1024.

# %% [markdown]
# ## Real text
#
# The text of this lesson is the source code of Python's own library. It is split by whole modules: `train` is for
# counting, and `val` is for measuring. A computer stores text as bytes, numbers from 0 to 255. A plain letter is one
# byte.

# %%
text = lesson_text()
text

# %% [markdown]
# Here is a piece of `train`, as text and as the bytes of its first ten letters.

# %%
piece = text.train[:300]
print(piece.decode())
list(piece[:10])

# %% [markdown]
# A model that knows nothing gives each of the 256 bytes the same probability. Its surprise is the same for every byte.

# %%
surprise(1 / 256)

# %% [markdown]
# So a model that knows nothing needs 8 bits per byte, and a model that needs fewer has learned something.
#
# ### Exercise 1.2 · A model that counts letters
#
# ★★☆ · 5 minutes
#
# The simplest model counts how often each byte occurs in `train`. Its probability for a byte is `counts[byte] / total`,
# and does not depend on the bytes before it. Write `letter_bits(counts, data)`: the mean surprise of the bytes of
# `data` under this model. A loop over `data` gives the bytes as numbers, and these are the keys of `counts`.
#
# **Predict first:** how many bits per byte does this model need for Python code? It was 8 without any knowledge.

# %%
counts = Counter(text.train)
counts.most_common(5)

# %%
predict("letter-bits", ...)


# %% nbgrader={"grade_id": "letter-bits", "solution": true}
def letter_bits(counts, data):
    """Mean surprise of the bytes of `data`, in bits, under a model that counted letters."""
    ### BEGIN SOLUTION
    total = sum(counts.values())
    return sum(surprise(counts[byte] / total) for byte in data) / len(data)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-letter-bits", "grade": true, "locked": true, "points": 2}
check("letter-bits", letter_bits)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three steps: the total of all counts, the surprise of each byte of `data`, and the mean of these surprises.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `sum(counts.values())` is the total. The mean is a sum divided by `len(data)`.
#
# </details>

# %% [markdown] tags=["solution"]
# The mean surprise over a text is its *bits per byte*. The probabilities come from `counts`, which were made before in
# another text, and the bytes come from `data`. A model that is measured on the text that it counted looks better than
# it is, as exercise 1.6 shows.

# %% [markdown]
# On the text that it counted, the model needs this many bits per byte:

# %%
letter_bits(counts, text.train[:100_000])

# %% [markdown]
# ### Exercise 1.3 · The letter that never came
#
# ★★☆ · 5 minutes
#
# A byte that never occurs in `train` has probability 0, and its surprise is infinite: with one such byte in `val`, the
# mean would be infinite, too. The remedy is to add a small number `alpha` to the count of each of the 256 bytes. Write
# `smoothed(counts, byte, alpha)`, the probability after this. All 256 probabilities must add up to 1.
#
# **Predict first:** three `a` and one `b` were counted. With alpha = 1, what is the probability of a `c`?

# %%
predict("smoothed", ...)


# %% nbgrader={"grade_id": "smoothed", "solution": true}
def smoothed(counts, byte, alpha):
    """Probability of a byte when alpha is added to the count of each of the 256 bytes."""
    ### BEGIN SOLUTION
    total = sum(counts.values()) + 256 * alpha
    return (counts[byte] + alpha) / total
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-smoothed", "grade": true, "locked": true, "points": 2}
check("smoothed", smoothed)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The count of the byte grows by alpha. By how much does the total of all counts grow?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Each of the 256 bytes gets alpha, also those that never came: the total grows by `256 * alpha`.
#
# </details>

# %% [markdown] tags=["solution"]
# The `c` has probability 1/260: its count is 0 + 1, and the total is 4 + 256. The probability that a model gives to
# bytes that it never saw is taken from those that it saw. Too large an alpha makes the model forget what it counted.

# %% [markdown]
# ## One byte of memory
#
# After a `q` there is mostly a `u`, and after a comma mostly a space. A model that looks at the byte before knows this.
# It counts *pairs* of bytes.
#
# ### Exercise 1.4 · Count pairs
#
# ★☆☆ · 4 minutes
#
# Write `count_pairs(data)`: a `Counter` whose keys are all pairs of neighbouring bytes, such as `b"ab"`. In
# `b"ababc"` the pairs are `ab`, `ba`, `ab` and `bc`.
#
# **Predict first:** a text has 1000 bytes. How many pairs does it have?

# %%
predict("pairs", ...)


# %% nbgrader={"grade_id": "pairs", "solution": true}
def count_pairs(data):
    """How often each pair of neighbouring bytes occurs in `data`."""
    ### BEGIN SOLUTION
    return Counter(data[i : i + 2] for i in range(len(data) - 1))
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-pairs", "grade": true, "locked": true, "points": 1}
check("pairs", count_pairs)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `data[i : i + 2]` is the pair that begins at place `i`. At which places may a pair begin?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `Counter(... for i in range(len(data) - 1))` counts one slice for each place but the last.
#
# </details>

# %% [markdown] tags=["solution"]
# A pair begins at every place but the last one, so 1000 bytes have 999 pairs. The pairs overlap: each byte but the
# first and the last is in two of them.

# %%
pairs = count_pairs(text.train)
pairs.most_common(8)

# %% [markdown]
# ### Exercise 1.5 · What follows an a
#
# ★★★ · 5 minutes
#
# Write `after(pairs, first, second, alpha)`: the probability that the byte `second` comes next when `first` was the
# byte before. Add `alpha` as in exercise 1.3. Both bytes are given as `b"a"`, so `first + second` is the key of the
# pair.
#
# **Predict first:** is the probability of a `u` after a `q` the share of the pair `qu` among all pairs? Answer yes or
# no, in quotation marks.

# %%
predict("conditional", ...)


# %% nbgrader={"grade_id": "conditional", "solution": true}
def after(pairs, first, second, alpha):
    """Probability of the byte `second` after the byte `first`."""
    ### BEGIN SOLUTION
    begin_with_first = sum(count for pair, count in pairs.items() if pair[:1] == first)
    return (pairs[first + second] + alpha) / (begin_with_first + 256 * alpha)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-conditional", "grade": true, "locked": true, "points": 2}
check("conditional", after)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What came before is known. Which of the pairs are still possible, and how many of them were counted?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `sum(count for pair, count in pairs.items() if pair[:1] == first)` counts the pairs that begin with `first`.
#
# </details>

# %% [markdown] tags=["solution"]
# The answer to the prediction is no. The share among all pairs is the probability of seeing `q` and then `u`. Once the
# `q` is there, only the pairs that begin with `q` are possible, so their count is the total. This is a *conditional*
# probability.

# %% [markdown]
# With your function you can ask what follows a byte. After a `q` in Python code:

# %%
{letter: round(after(pairs, b"q", letter.encode(), 0.01), 3) for letter in "ua_ "}

# %% [markdown]
# ## Looking back further
#
# `Counted(data, before)` is the same model with any number of bytes before the next one. With 1 byte it is your pairs,
# with 2 bytes it counts triples. This cell asks it once more for a `u` after a `q`:

# %%
Counted(text.train, before=1).probability(b"q", b"u")

# %% [markdown]
# ### Exercise 1.6 · How far to look back
#
# ★★☆ · 4 minutes
#
# You may use one model to predict code that will be written tomorrow. It may look back 0, 1, 2, 3, 4 or 5 bytes.
#
# **Predict first:** how many bytes should it look back?

# %%
predict("best-length", ...)

# %% [markdown]
# The next cell measures the six models on a part of the text that they counted, and on `val`, which they never saw. It
# takes about ten seconds. When you have seen the numbers, assign the length that you choose to `best_length`, as in
# `best_length = 1`.

# %%
found = by_length()
for before, (on_train, on_val) in found.items():
    print(f"{before} bytes before: {on_train:.2f} on the counted text, {on_val:.2f} on val")

# %%
lengths(found)

# %% nbgrader={"grade_id": "best-length", "solution": true}
### BEGIN SOLUTION
best_length = min(found, key=lambda before: found[before][1])
### END SOLUTION

# %% nbgrader={"grade_id": "check-best-length", "grade": true, "locked": true, "points": 1}
check("best-length", best_length)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Code of tomorrow is not in the text that was counted. Which of the two numbers is of such text?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Look for the lowest number on `val`. Write `best_length = ` and the number of bytes in its line.
#
# </details>

# %% [markdown] tags=["solution"]
# A model that looks back far has seen nearly every context of its own text exactly once, and what followed it. This is
# knowing by heart. On `val` most of these contexts are new, and the model has nothing to say about them. The number on
# `val` therefore falls first and rises again, and the model to choose is the one where it is lowest.

# %% [markdown]
# ## Why bytes and not tokens
#
# A trained model reads *tokens*: pieces of text of one or more bytes, such as `return`. Its loss is printed in *nats
# per token*: a surprise with the natural logarithm, for a whole token. One bit is ln 2 = 0.693 nats.
#
# ### Exercise 1.7 · From nats per token to bits per byte
#
# ★★☆ · 4 minutes
#
# Write `bits_per_byte(nats_per_token, bytes_per_token)`.
#
# **Predict first:** a model has a loss of 4 nats per token, and a token has 3.2 bytes. Is that better or worse than
# the best counting model above?

# %%
predict("per-byte", ...)


# %% nbgrader={"grade_id": "per-byte", "solution": true}
def bits_per_byte(nats_per_token, bytes_per_token):
    """The loss of a model, in bits for each byte of text."""
    ### BEGIN SOLUTION
    return nats_per_token / math.log(2) / bytes_per_token
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-per-byte", "grade": true, "locked": true, "points": 1}
check("per-byte", bits_per_byte)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two changes of unit: from nats to bits, and from a token to a byte.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `nats / math.log(2)` is a number of bits. A token's bits are spread over `bytes_per_token` bytes.
#
# </details>

# %% [markdown] tags=["solution"]
# A nat is 1 / ln 2 = 1.44 bits, so the number grows when it is written in bits. The bits of a token are spread over its
# bytes, so the number shrinks again. 4 nats per token become 5.77 bits per token and 1.80 bits per byte. This is lower
# than every number of the counting models on `val`, and so it is better.

# %% [markdown]
# ### Exercise 1.8 · Two models with different tokens
#
# ★★☆ · 3 minutes
#
# Model A has a loss of 2.60 nats per token, and its tokens have 1.9 bytes on average. The tokens of model B have 3.4
# bytes. At which loss, in nats per token, is B exactly as good as A? Assign the number to `loss_of_b`.
#
# **Predict first:** is it more or less than 2.60?

# %%
predict("equal-loss", ...)

# %% nbgrader={"grade_id": "equal-loss", "solution": true}
### BEGIN SOLUTION
loss_of_b = 2.60 * 3.4 / 1.9
### END SOLUTION

# %% nbgrader={"grade_id": "check-equal-loss", "grade": true, "locked": true, "points": 1}
check("equal-loss", loss_of_b)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Equally good means the same bits per byte, and so the same nats per byte.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A has 2.60 / 1.9 nats per byte. How many nats is that for 3.4 bytes?
#
# </details>

# %% [markdown] tags=["solution"]
# Both have 2.60 / 1.9 = 1.37 nats per byte, and 3.4 bytes of that are 4.65 nats. An agent could lower its loss per
# token without learning anything, by choosing smaller tokens. It cannot lower its bits per byte in this way, and
# therefore this project compares models by them.

# %% [markdown]
# ## A trained model
#
# `train.py` is the training that the agents of this project edit. The next cell trains it on the same kind of text,
# for 20 seconds. A slow laptop may set `seconds` to 0: the cell then shows a result that was recorded on two cores.
#
# Its result is called `val_bpb`, the bits per byte on `val`. Guess it before you run the cell.

# %%
seconds = lesson_seconds(20)
trained = train_by_hand(seconds)
trained

# %% [markdown]
# Your own function turns the training loss into bits per byte. The result is a little different from `val_bpb`, because
# the training loss was measured on the text of the training and not on `val`:

# %%
bits_per_byte(trained.train_loss, trained.bytes_per_token)

# %%
models = {"knows nothing": 8.0, **{f"{before} bytes before": found[before][1] for before in (0, 1, 2, 3)}}
ladder(models | {"train.py": trained.val_bpb})

# %% [markdown]
# ### Exercise 1.9 · What a bit per byte is worth
#
# ★☆☆ · 3 minutes
#
# A model can pack a file: each byte takes as many bits as its surprise. Write `packed_bytes(bpb, num_bytes)`: how many
# bytes a file of `num_bytes` bytes has after packing with a model of `bpb` bits per byte.
#
# **Predict first:** how many kB are left of 100 kB with the model that you trained?

# %%
predict("compressed", ...)


# %% nbgrader={"grade_id": "compressed", "solution": true}
def packed_bytes(bpb, num_bytes):
    """Bytes of a file after packing it with a model of `bpb` bits per byte."""
    ### BEGIN SOLUTION
    return bpb * num_bytes / 8
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-compressed", "grade": true, "locked": true, "points": 1}
check("compressed", packed_bytes)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many bits does the whole file need? And how many bytes are that?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `bpb * num_bytes` bits, and a byte has 8 bits.
#
# </details>

# %% [markdown] tags=["solution"]
# A file of n bytes needs n times `bpb` bits, and 8 bits are a byte. A model of 2 bits per byte packs a file to a
# quarter. A program such as `xz` does the same with a model that it builds while it reads the file.

# %% [markdown]
# The same for `val`, and what `xz` makes of it:

# %%
import lzma

print(f"xz:       {len(lzma.compress(text.val, preset=9)):7,} bytes")
print(f"train.py: {packed_bytes(trained.val_bpb, len(text.val)):7,.0f} bytes")

# %% [markdown]
# ## What a sealed split is for
#
# This project splits text into four parts. `train` is for learning. `dev` is the part that an agent may look at. `val`
# decides which change is kept. `test` is opened once, at the end.
#
# ### Exercise 1.10 · The number that you may report
#
# ★★☆ · 4 minutes
#
# You trained 100 models and want to publish how good the best one is. Which number do you report? Assign its letter to
# `reported`, as in `reported = "a"`.
#
# - a: its bits per byte on `train`
# - b: its bits per byte on `val`, the lowest of the 100
# - c: its bits per byte on `test`, opened once, after you chose it on `val`
# - d: the lowest of the 100 numbers on `test`
# - e: the mean of its numbers on `train` and on `val`
#
# **Predict first:** how many of the five numbers are honest?

# %%
predict("sealed", ...)

# %% nbgrader={"grade_id": "sealed", "solution": true}
### BEGIN SOLUTION
reported = "c"
### END SOLUTION

# %% nbgrader={"grade_id": "check-sealed", "grade": true, "locked": true, "points": 1}
check("sealed", reported)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which of the splits had no part in choosing the model, or in training it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A number that was the lowest of many is partly luck, on whichever split. Write `reported = "..."` with one letter.
#
# </details>

# %% [markdown] tags=["solution"]
# Only c. When you choose the lowest of many numbers, you also choose luck, so this number is a little too low on the
# split that you chose with. Lesson 4 measures by how much.

# %% [markdown]
# ## What you have now
#
# - Surprise is −log₂ p. Its mean over a text is bits per byte.
# - A model that knows nothing needs 8 bits per byte. Counting gets below 3, and twenty seconds of training much lower.
# - A loss per token depends on the tokens. Bits per byte do not.
# - A model is measured on text that it never saw. The number that is reported comes from text that chose no model.
#
# Next: [lesson 2](2-one-experiment.ipynb) takes one experiment apart.

# %%
progress()
