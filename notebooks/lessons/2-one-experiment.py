# %% [markdown]
# # Lesson 2: One experiment, cell by cell
#
# An agent makes a hundred experiments or more in a night. You make one, slowly: predict, edit, run, judge, record. Each
# step calls the same function that a study in the background calls.
#
# **Time:** 40 minutes. **Compute:** about two minutes on two cores. **Needs:** lesson 1, and no network.
#
# If your laptop is slow, set the environment variable `AUTORESEARCH_LESSON_SECONDS` to 3 before you start JupyterLab.
# With 0, the lesson trains nothing and shows runs of a recorded study. All exercises work with them.

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
# A study has one text, one budget and one rule. Every run of it trains with the same time budget, so that ideas
# compete on equal terms. Fifteen seconds are enough for a lesson. In the recorded study, which you see with 0 seconds,
# a run has thirty.

# %%
study = lesson_study("lesson-2", lesson_seconds(15))
study

# %% [markdown]
# ## Measure what chance does
#
# Before any idea, the unchanged `train.py`, which is called the *baseline*, trains three times. Only the random numbers
# differ. The cell takes a little more than a minute. Where the speed of a machine changes, because other programs use
# it as well, the baseline trains up to eight times, until three runs had about the same speed.
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
# The picture of the baseline, further up, shows the training loss over the seconds of a run, in nats per token. Where
# the curve begins above the upper edge of the picture, the word "from" and a number give its first value.
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
# −log(1/2048) is log 2048 = 7.62 nats, which is nearest to 8; 11 is the same in bits. When a curve begins far above
# this, the model is sure of wrong tokens before it has learned anything. When it begins far below, the model has seen
# the answers. So look at the beginning of a curve first.

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
# C is fine. B takes steps that are too small: it falls steadily, but at the end it is only where C was after about four
# seconds. A takes steps that are too large: each of them jumps over the place that it aims for, so the loss goes up and
# down and stays high.

# %% [markdown]
# ### Exercise 2.4 · How much text a run reads
#
# ★★☆ · 4 minutes
#
# The *supervisor* is the program that starts a training, watches it and has its model scored. It measured how many
# tokens per second your machine trains on:

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
# one that lets a step learn more, and the model cannot learn its text by heart yet.

# %%
epochs(tokens_per_second, study.time_budget_seconds, corpus_tokens)

# %% [markdown]
# ## Edit
#
# These are some of the numbers that `train.py` begins with. A comment in the parameters cell of
# [train.py](../../train.py) says what each of them means. A study may have fitted some values to this machine.

# %%
now = parameters_of(study)
{name: now[name] for name in ("TOTAL_BATCH_SIZE", "EMBEDDING_LR", "MATRIX_LR", "NGRAM_LR", "MODEL_DIM", "WARMDOWN")}

# %% [markdown]
# ### Exercise 2.5 · An idea that can be refuted
#
# ★★☆ · 6 minutes
#
# Choose one number and another value for it. `Me(hypothesis, changes, expected)` is an agent that proposes what you
# write: the reason in one sentence, a dict with the change, and the effect that you expect, as text with a number.
# Assign `study.propose(Me(...), anew=True)` to `idea`; with `anew=True`, the idea replaces an earlier one of yours.
# When you open this lesson again after your idea was kept, choose another value: `train.py` has yours already.
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
# The supervisor runs your `train.py` as a notebook, in a process of its own, until the budget is used up.

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
# With your function, the difference of your idea in units of its error. The rule above names another number of "sigma"
# for the same difference. Your σ comes from three runs, so it may be far too small. The rule therefore says how many σ
# would be as rare if σ were known exactly: 8 of a σ from three runs are as rare as 2.4 of such a σ. (Where the idea has
# run twice already, as in the recorded study, the difference is that of its mean.)

# %%
sigma, difference = statistics.stdev(baseline.scores), verdict.delta_bpb
if difference is not None:
    runs = len(verdict.experiment.judged_runs)
    error = difference_error(sigma, runs, len(baseline.scores))
    print(f"Runs of the idea: {runs}. Difference: {difference:+.4f} ± {error:.4f} bits per byte,")
    print(f"which is {difference / error:+.1f} standard errors.")

# %% [markdown]
# ### Exercise 2.7 · Four verdicts
#
# ★★☆ · 5 minutes
#
# The *incumbent* is the `train.py` that was kept last, at first the baseline. A new idea is its *challenger*. The rule
# has three verdicts on the first score of a challenger. `keep`: it is better by so much that chance hardly ever brings
# it, about 5 σ where σ is well known. `confirm`: it is better by less, and the challenger runs once more. `discard`: it
# is not better. After a confirmation, the challenger is kept when the mean of both runs is better by a quarter of σ.
# (Where many ideas are clearly worse, the rule asks for less: see `docs/decisions.md` among the files of the program.)
#
# The incumbent's mean is 1.500, and σ is 0.010, known exactly. What does the rule say of these four challengers? Assign
# a list of four words to `verdicts`.
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
# Count the distance to 1.500 in σ. Compare that of a first score with 5 σ, and that of a mean of two with σ/4.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The distances are +2 σ, −2 σ, −8 σ, and −1.25 σ for the mean of the fourth.
#
# </details>

# %% [markdown] tags=["solution"]
# Two are kept, challengers 3 and 4. Challenger 1 is not better. Challenger 2 is better by 2 σ. Chance alone brings that
# in one of 44 tries or more often, and a night has more tries than that. Challenger 3 is better by more than chance
# brings. Challenger 4 was confirmed: its mean has to be better by a quarter of σ only, because its first score was
# better, too. Lesson 4 measures what this rule is worth.

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
# The decision becomes a line of the study's history, with all numbers that it was made from.

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
# Each event is written before anything acts on it. After a crash the supervisor reads these lines and knows where to go
# on: a model that was trained is scored and not trained again. The table, the picture and the notebook of an experiment
# are made from these lines. Two names may stand beside the others: `refused` for a proposal of yours that another one
# of yours replaced, and `drawn` for the picture and the table, which are drawn after the decision.

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
# This study of 62 experiments comes with the project. It needs no training.

# %%
recorded_study().figure()

# %% [markdown]
# ## What you have now
#
# - Two runs of the same code differ by chance, and σ says how much. Every difference is compared with σ.
# - A curve begins near log(vocab_size), and its shape shows whether the learning rate is too low or too high.
# - An idea is one change with a reason and an expectation, which are written down before the run.
# - The rule keeps, discards, or asks for one more run, and every step is written down.
#
# Next: in [lesson 3](3-be-the-agent.ipynb) you are the agent.

# %%
progress()
