# %% [markdown]
# # Lesson 2: One experiment, cell by cell
#
# An agent makes hundreds of experiments in a night. You make one, slowly: predict, edit, run, judge, record. Each step
# is the function that a study in the background uses, too.
#
# **Time:** 40 minutes. **Compute:** three minutes on two cores. **Needs:** lesson 1, and no network.
#
# If your laptop is slow, set the environment variable `AUTORESEARCH_LESSON_SECONDS` to 3 before you start JupyterLab.
# A recorded study is at the end of this lesson, for a laptop that cannot train at all.

# %%
import math
import statistics

from autoresearch_kernel.lab.lessons import check, lesson_seconds, predict, progress, recorded
from autoresearch_kernel.lab.lessons.example_study import recorded_study
from autoresearch_kernel.lab.lessons.figures import curves
from autoresearch_kernel.lab.lessons.me import Me
from autoresearch_kernel.lab.lessons.studies import events_of, lesson_study, parameters_of

# %% [markdown]
# ## The study
#
# A study has one text, one budget and one rule. Every run of it trains for the same number of seconds, so that ideas
# compete on equal terms. Fifteen seconds are enough for a lesson.

# %%
study = lesson_study("lesson-2", lesson_seconds(15))
study

# %% [markdown]
# ## Measure what chance does
#
# Before any idea, the same `train.py` trains three times. Only the random numbers differ. The cell takes about a
# minute.
#
# **Predict first:** how far apart are the three scores, in bits per byte? Write your guess before you run the cell.

# %%
predict("spread", ...)

# %%
baseline = study.baseline()
baseline

# %%
[round(score, 4) for score in baseline.scores]

# %% [markdown]
# ### Exercise 2.1 · How far apart equal runs lie
#
# ★★☆ · 5 minutes
#
# Write `spread(scores)`: the standard deviation σ (sigma) of a single run, as it is estimated from a few runs. Three
# scores are few, so divide by n − 1.


# %% nbgrader={"grade_id": "spread", "solution": true}
def spread(scores):
    """Standard deviation of one run, estimated from a few scores."""
    ### BEGIN SOLUTION
    mean = sum(scores) / len(scores)
    squares = [(score - mean) ** 2 for score in scores]
    return math.sqrt(sum(squares) / (len(scores) - 1))
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-spread", "grade": true, "locked": true, "points": 2}
check("spread", spread)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Four steps: the mean, the squared distances from it, their sum divided by n − 1, and the root.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A function of the module `statistics` does all four. Its relative with a `p` in its name divides by n.
#
# </details>

# %% [markdown] tags=["solution"]
# `statistics.stdev(scores)` is the same. The mean is computed from the same scores, and so it lies closer to them than
# the true mean does; dividing by n − 1 makes up for this. With three scores the estimate is rough: it may be wrong by
# half. The rule of this project knows that and asks for more when σ rests on few runs.

# %%
spread(baseline.scores)

# %% [markdown]
# ## Read a loss curve
#
# The picture above shows the training loss over the seconds of the first run, in nats per token. Its text says "from"
# and the value at the start, which is above the frame.
#
# ### Exercise 2.2 · Where a curve begins
#
# ★☆☆ · 3 minutes
#
# Before the first step the model knows nothing: each of the `vocab_size` tokens has the same probability. Write
# `first_loss(vocab_size)`, the loss in nats per token.
#
# **Predict first:** the vocabulary of this text has 2048 tokens. Is the first loss nearer to 8, 11 or 2048?

# %%
predict("first-loss", ...)


# %% nbgrader={"grade_id": "first-loss", "solution": true}
def first_loss(vocab_size):
    """Nats per token of a model that guesses."""
    ### BEGIN SOLUTION
    return math.log(vocab_size)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-first-loss", "grade": true, "locked": true, "points": 1}
check("first-loss", first_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Lesson 1: the surprise of a probability p is −log p. What is p here?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# p is `1 / vocab_size`. Nats are logarithms to the base e: `math.log`.
#
# </details>

# %% [markdown] tags=["solution"]
# −log(1/2048) is log 2048 = 7.62 nats. A curve that begins far above this starts with a wrong certainty, and one that
# begins far below it has seen the answers. It is the first thing to look at.

# %% [markdown]
# ### Exercise 2.3 · Three learning rates
#
# ★★☆ · 4 minutes
#
# These three curves were recorded with three learning rates: one is too low, one is fine, one is too high. Which is
# which? Assign a dict to `rates`, as in `rates = {"low": "A", "fine": "B", "high": "C"}`.
#
# **Predict first:** what does a curve look like when its steps are too large? Answer in your words.

# %%
predict("curves", ...)

# %%
curves(recorded("2-curves"))

# %% nbgrader={"grade_id": "curves", "solution": true}
### BEGIN SOLUTION
rates = {"low": "B", "fine": "C", "high": "A"}
### END SOLUTION

# %% nbgrader={"grade_id": "check-curves", "grade": true, "locked": true, "points": 1}
check("curves", rates)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The learning rate is the length of a step. Steps that are too short need more time than the budget has.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Begin with the fine one: it is the lowest at the end. Of the other two, one falls slowly, and one stays high.
#
# </details>

# %% [markdown] tags=["solution"]
# C is fine. B takes steps that are too small: its curve is smooth and hardly falls in the time. A takes steps
# that are too large: each of them jumps over the place that it aims for. More time would help B, and not A.

# %% [markdown]
# ### Exercise 2.4 · How much text a run reads
#
# ★★☆ · 4 minutes
#
# The supervisor measured how many tokens per second your machine trains on:

# %%
tokens_per_second = baseline.runs[0].measured["tokens_per_second"]
corpus_tokens = study.facts["corpus"]["num_train_tokens"]
print(f"{tokens_per_second:,.0f} tokens per second; the training text has {corpus_tokens:,} tokens")

# %% [markdown]
# Write `epochs(tokens_per_second, seconds, corpus_tokens)`: how often a run reads the whole training text.
#
# **Predict first:** does a run of this lesson read all of its text?

# %%
predict("epochs", ...)


# %% nbgrader={"grade_id": "epochs", "solution": true}
def epochs(tokens_per_second, seconds, corpus_tokens):
    """How often the training text is read; below 1 a part of it stays unread."""
    ### BEGIN SOLUTION
    return tokens_per_second * seconds / corpus_tokens
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-epochs", "grade": true, "locked": true, "points": 1}
check("epochs", epochs)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# First: how many tokens does the run read in all of its seconds?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `tokens_per_second * seconds` tokens. Divide by the tokens of the text.
#
# </details>

# %% [markdown] tags=["solution"]
# Most runs on a laptop read a small part of their text. Therefore a change that makes a step faster is worth as much as
# one that makes it smarter, and knowing the text by heart is no danger yet.

# %%
epochs(tokens_per_second, study.time_budget_seconds, corpus_tokens)

# %% [markdown]
# ## Edit
#
# These are the numbers that `train.py` begins with. The comments in its parameters cell say what each of them means.

# %%
now = parameters_of(study)
{name: now[name] for name in ("TOTAL_BATCH_SIZE", "EMBEDDING_LR", "MATRIX_LR", "NGRAM_LR", "MODEL_DIM", "WARMDOWN")}

# %% [markdown]
# ### Exercise 2.5 · An idea that can be refuted
#
# ★★☆ · 6 minutes
#
# Choose one number and another value for it. `Me(hypothesis, changes, expected)` is an agent that proposes what you
# write: the reason in one sentence, a dict with the change, and the effect that you expect, as a number in words.
# Assign `study.propose(Me(...), anew=True)` to `idea`.
#
# **Predict first:** by how much will your change move `val_bpb`? Negative is better.

# %%
predict("idea", ...)

# %% nbgrader={"grade_id": "idea", "solution": true}
### BEGIN SOLUTION
change = {"EMBEDDING_LR": round(now["EMBEDDING_LR"] * 0.7, 4)}
me = Me("Smaller steps of the embeddings may settle lower.", change, "-0.01 bits per byte")
idea = study.propose(me, anew=True)
### END SOLUTION

# %% nbgrader={"grade_id": "check-idea", "grade": true, "locked": true, "points": 2}
check("idea", idea)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `{"EMBEDDING_LR": 0.3}` is a dict with one change. The names are those of the cell above.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `idea = study.propose(Me("Because ...", {"EMBEDDING_LR": 0.3}, "-0.01 bits per byte"), anew=True)`, with your reason.
#
# </details>

# %% [markdown] tags=["solution"]
# One change, so that its effect can be told. A reason, so that the result says something about more than this number.
# An expectation, written before the run, so that the run can refute it. The agents of this project have to write the
# same three.

# %%
idea

# %% [markdown]
# ## Run and judge
#
# `train.py` becomes a notebook of its own, in a process of its own, and trains until the budget is used up.

# %%
outcome = study.run(idea)
outcome

# %% [markdown]
# The training has ended. Another process loads the model and scores it on text that no training has seen. Then the
# rule compares.

# %%
verdict = study.judge()
verdict

# %% [markdown]
# ### Exercise 2.6 · The error of a difference
#
# ★★★ · 5 minutes
#
# Your idea has one run, and the baseline has three. Each run has the deviation σ. Write
# `difference_error(sigma, n, m)`: the standard error of the difference between a mean of n runs and a mean of m runs.
#
# **Predict first:** is the error of one run against the mean of a hundred runs nearer to 0, to σ or to 10 σ?

# %%
predict("difference-error", ...)


# %% nbgrader={"grade_id": "difference-error", "solution": true}
def difference_error(sigma, n, m):
    """Standard error of the difference of two means, of n and of m runs."""
    ### BEGIN SOLUTION
    return sigma * math.sqrt(1 / n + 1 / m)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-difference-error", "grade": true, "locked": true, "points": 2}
check("difference-error", difference_error)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The mean of n runs has the error σ / √n. The squares of independent errors add up.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# σ²/n + σ²/m is the square of the answer.
#
# </details>

# %% [markdown] tags=["solution"]
# The squares add up, also for a difference: two independent errors do not cancel. However many runs the baseline has,
# a single run of the idea keeps its own σ.

# %% [markdown]
# With your function, the difference of your idea in units of its error:

# %%
sigma = statistics.stdev(baseline.scores)
if verdict.val_bpb is not None:
    difference = verdict.val_bpb - baseline.val_bpb
    error = difference_error(sigma, 1, len(baseline.scores))
    print(f"{difference:+.4f} ± {error:.4f} bits per byte: {difference / error:+.1f} standard errors")

# %% [markdown]
# ### Exercise 2.7 · Four verdicts
#
# ★★☆ · 5 minutes
#
# The rule has three verdicts. A score that is clearly better than the incumbent is kept at once: `keep`. A score that
# is better, but by an amount that chance may bring, runs once more: `confirm`. A score that is not better goes:
# `discard`. After a confirmation the mean of both runs decides.
#
# The incumbent's mean is 1.500, and σ is 0.010. What does the rule say of these four challengers? Assign a list of four
# words to `verdicts`.
#
# 1. one run: 1.520
# 2. one run: 1.480
# 3. one run: 1.420
# 4. two runs: 1.480 and 1.495
#
# **Predict first:** how many of the four are kept?

# %%
predict("verdicts", ...)

# %% nbgrader={"grade_id": "verdicts", "solution": true}
### BEGIN SOLUTION
verdicts = ["discard", "confirm", "keep", "keep"]
### END SOLUTION

# %% nbgrader={"grade_id": "check-verdicts", "grade": true, "locked": true, "points": 2}
check("verdicts", verdicts)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Count the distance to 1.500 in σ. A single run has to be about 5 σ better to be kept at once.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The distances are +2 σ, −2 σ, −8 σ, and −1.25 σ for the mean of the fourth.
#
# </details>

# %% [markdown] tags=["solution"]
# Challenger 1 is not better. Challenger 2 is better by 2 σ, which chance brings once in 44 tries, and a night has more
# tries than that. Challenger 3 is out of the reach of chance. Challenger 4 was confirmed: its mean has to be better by
# a quarter of σ only, because it had to win twice. Lesson 4 measures what this rule is worth.

# %% [markdown]
# If the rule wants one more run of your idea, this cell makes it.

# %%
while verdict.verdict == "confirm":
    study.run()
    verdict = study.judge()
verdict

# %% [markdown]
# ## Record
#
# The decision becomes a line of the history, with everything it rests on.

# %%
study.record()

# %% [markdown]
# ### Exercise 2.8 · What is written down
#
# ★★☆ · 4 minutes
#
# `events` has every line of `history.jsonl`, the only record of this study. Each line is a dict: `event["event"]` is
# its name, and `event.get("experiment")` is the number of its experiment, if it has one. Your idea is experiment 1.
# Assign the names of its events, in their order, to `names`.
#
# **Predict first:** which is the first event of an experiment, and which is the last?

# %%
predict("events", ...)

# %%
events = events_of(study)
len(events), sorted(events[-1])

# %% nbgrader={"grade_id": "events", "solution": true}
### BEGIN SOLUTION
names = [event["event"] for event in events if event.get("experiment") == 1]
### END SOLUTION

# %% nbgrader={"grade_id": "check-events", "grade": true, "locked": true, "points": 1}
check("events", names)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A list with a condition: `[... for event in events if ...]`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The condition is `event.get("experiment") == 1`, and what is taken is `event["event"]`.
#
# </details>

# %% [markdown] tags=["solution"]
# Each event is written before anything acts on it. A supervisor that was killed reads these lines and knows where to go
# on: a model that was trained is scored and not trained again. The table, the picture and the notebook of an experiment
# are made from these lines.

# %%
names

# %% [markdown]
# The picture and the table are made from the same record.

# %%
study.figure()

# %%
study.table()

# %% [markdown]
# ## A recorded study
#
# This study of 100 experiments comes with the project. It needs no training.

# %%
recorded_study().figure()

# %% [markdown]
# ## What you have now
#
# - Equal runs differ by σ. Every difference is measured against it.
# - A curve begins at log(vocab_size), and its shape tells a learning rate.
# - One change, a reason, an expectation. Then the run.
# - The rule keeps, discards, or asks for one more run, and every step is written down.
#
# Next: in [lesson 3](3-be-the-agent.ipynb) you are the agent.

# %%
progress()
