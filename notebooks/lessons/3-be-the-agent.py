# %% [markdown]
# # Lesson 3: Be the agent
#
# You try five ideas, and the project's optimiser tries five. The optimiser is a small program, without a language
# model, that changes the numbers of `train.py`. Before each of your runs you write down what you expect. In the end you
# see who found more, and how well your expectations agreed with the results.
#
# **Time:** 44 minutes. **Compute:** about seven and a half minutes on two cores. **Needs:** lesson 2, and no network.
#
# If your laptop is slow, set the environment variable `AUTORESEARCH_LESSON_SECONDS` to 3 before you start JupyterLab.
# With 0, the lesson trains nothing and shows experiments of a recorded study.

# %%
import math

from autoresearch_kernel.lab.lessons import check, lesson_seconds, predict, progress
from autoresearch_kernel.lab.lessons.contest import contest
from autoresearch_kernel.lab.lessons.figures import expectations
from autoresearch_kernel.lab.lessons.me import Guess

# %% [markdown]
# ## The two studies
#
# Both begin with the same `train.py`, the same text and the same budget of ten seconds a run. First the baseline of
# your study trains three times, and then that of the optimiser's study. This takes three minutes. It takes longer where
# the speed of the machine changes: a baseline then trains up to eight times, until three runs had about the same speed.

# %%
both = contest(lesson_seconds(10))
both.measure()
both

# %% [markdown]
# These are the numbers that you may change. A comment in the parameters cell of [train.py](../../train.py) says what
# each of them means.

# %%
now = both.parameters
{name: now[name] for name in ("TOTAL_BATCH_SIZE", "EMBEDDING_LR", "MATRIX_LR", "NGRAM_LR", "HEAD_LR", "WARMDOWN")}

# %% [markdown]
# ## Five ideas
#
# `Guess(hypothesis, changes, expected, low, high)` is an idea with three numbers: the change of `val_bpb` that you
# expect, negative is better, and an interval from `low` to `high`. Choose the interval so that it holds the result in
# four cases of five. Here all three are numbers, and not text. σ, the deviation of a single run, helps to choose a
# width:

# %%
print(f"σ of the baseline: {both.sigma:.4f} bits per byte")

# %% [markdown]
# ### Exercise 3.1 · Five ideas and what you expect
#
# ★★☆ · 8 minutes
#
# Assign a list of five guesses to `guesses`. An example:
#
# `Guess("Half the batch makes twice the steps.", {"TOTAL_BATCH_SIZE": 512}, -0.02, -0.06, 0.03)`
#
# **Predict first:** how many of your five intervals will hold the result?

# %%
predict("guesses", ...)

# %% nbgrader={"grade_id": "guesses", "solution": true}
### BEGIN SOLUTION
steps, warm = now["TOTAL_BATCH_SIZE"] // 2, min(1.0, now["WARMDOWN"] + 0.2)
guesses = [
    Guess("Half the batch makes twice the steps.", {"TOTAL_BATCH_SIZE": steps}, -0.02, -0.08, 0.04),
    Guess("Larger steps may learn more in a short time.", {"MATRIX_LR": now["MATRIX_LR"] * 1.5}, -0.01, -0.04, 0.03),
    Guess("A longer decay may settle lower.", {"WARMDOWN": warm}, -0.01, -0.04, 0.02),
    Guess("The output may learn faster than it does.", {"HEAD_LR": now["HEAD_LR"] * 1.5}, -0.005, -0.03, 0.03),
    Guess("Words may learn faster than they do.", {"EMBEDDING_LR": now["EMBEDDING_LR"] * 1.5}, 0.0, -0.05, 0.05),
]
### END SOLUTION

# %% nbgrader={"grade_id": "check-guesses", "grade": true, "locked": true, "points": 2}
check("guesses", guesses)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A guess changes one number. Ask of each: does it make a step faster, larger, or smarter?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two runs of the same code differ by about 1.4 σ. An interval narrower than that will often miss by chance alone.
#
# </details>

# %% [markdown] tags=["solution"]
# There is no single right answer. A good list has a reason for each idea, and its intervals are not all equally wide
# and not so wide that they hold every result. After the runs it is too late to write an expectation: people then
# believe that they had expected what came.

# %% [markdown]
# ## Your five runs
#
# Each guess becomes an experiment: it trains, is scored, and runs once more where the rule asks for it. This takes two
# to three minutes. A cell that was interrupted goes on where it stopped.

# %%
mine = both.try_guesses(guesses)
mine

# %% [markdown]
# The bars are your intervals, and the marks are what came. A cross is a miss; without a mark there is no score.

# %%
names = [next(iter(guess.changes)) for guess in guesses]
rows = [(name, guess.low, guess.high, came) for name, guess, came in zip(names, guesses, mine.changes, strict=True)]
expectations(rows)

# %% [markdown]
# ### Exercise 3.2 · How often you were right
#
# ★★☆ · 4 minutes
#
# Write `hits(intervals, results)`: the share of intervals that hold their result. An interval is a pair `(low, high)`,
# and its ends belong to it. A result is a number, or `None` for a run without a score, which is a miss.
#
# **Predict first:** are the intervals of most people too narrow or too wide?

# %%
predict("hits", ...)


# %% nbgrader={"grade_id": "hits", "solution": true}
def hits(intervals, results):
    """Share of the intervals that hold their result."""
    ### BEGIN SOLUTION
    found = 0
    for (low, high), result in zip(intervals, results, strict=True):
        if result is not None and low <= result <= high:
            found += 1
    return found / len(intervals)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-hits", "grade": true, "locked": true, "points": 1}
check("hits", hits)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go through both lists at the same time with `zip`. Test for `None` before you compare.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `result is not None and low <= result <= high` is one hit.
#
# </details>

# %% [markdown] tags=["solution"]
# Most people's intervals are too narrow: of intervals that shall hold in four cases of five, often only two or three
# hold. Whoever writes them down for a while gets better at it. This is *calibration*.

# %%
intervals = [(guess.low, guess.high) for guess in guesses]
print(f"{hits(intervals, mine.changes):.0%} of your intervals hold the result, and 80 % were wanted")

# %% [markdown]
# ### Exercise 3.3 · Hope and result
#
# ★☆☆ · 3 minutes
#
# Write `bias(expected, results)`: the mean of what came minus what was expected. All results are numbers here.
#
# **Predict first:** is it positive or negative for most people? Negative changes are better.

# %%
predict("bias", ...)


# %% nbgrader={"grade_id": "bias", "solution": true}
def bias(expected, results):
    """Mean of result minus expectation; positive means too much hope."""
    ### BEGIN SOLUTION
    differences = [came - hoped for hoped, came in zip(expected, results, strict=True)]
    return sum(differences) / len(differences)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-bias", "grade": true, "locked": true, "points": 1}
check("bias", bias)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One difference for each pair, and their mean.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# After `import statistics`: `statistics.fmean(came - hoped for hoped, came in zip(expected, results))`
#
# </details>

# %% [markdown] tags=["solution"]
# It is positive for most people, because they write down ideas that they like. The same is true of agents. Even in a
# good night, most proposals change nothing or make the score worse.

# %%
scored = [(guess.expected, came) for guess, came in zip(guesses, mine.changes, strict=True) if came is not None]
if scored:
    print(f"your bias: {bias(*zip(*scored, strict=True)):+.4f} bits per byte")

# %% [markdown]
# ### Exercise 3.4 · The price of an interval
#
# ★★★ · 5 minutes
#
# An interval from −10 to 10 holds every result and says nothing. So an interval costs its width, and a miss costs ten
# times its distance from the nearer end, in addition. Write `price(low, high, result)`; lower is better.
#
# **Predict first:** the interval from −0.02 to 0 misses a result of 0.01. What does it cost?

# %%
predict("interval-score", ...)


# %% nbgrader={"grade_id": "interval-score", "solution": true}
def price(low, high, result):
    """Width of the interval, and ten times the distance of a result outside of it."""
    ### BEGIN SOLUTION
    miss = max(low - result, result - high, 0.0)
    return (high - low) + 10 * miss
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-interval-score", "grade": true, "locked": true, "points": 2}
check("interval-score", price)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A result is below the interval, within it, or above it. What is its distance in each of the three cases?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `max(low - result, result - high, 0.0)` is the distance in all three cases.
#
# </details>

# %% [markdown] tags=["solution"]
# The interval costs its width of 0.02 and ten times 0.01, so 0.12. The factor is 2/α for an interval that may miss in a
# share α of the cases: with α = 0.2 it is 10. With this factor, honest intervals have the lowest price on average.

# %%
prices = [price(low, high, came) for (low, high), came in zip(intervals, mine.changes, strict=True) if came is not None]
[round(each, 3) for each in prices]

# %% [markdown]
# ### Exercise 3.5 · Is it chance?
#
# ★★★ · 6 minutes
#
# Of five intervals that shall each hold with probability 0.8, only two hold. Is their author badly calibrated, or is it
# chance? Write `at_most(hits, n, p)`: the probability of at most `hits` hits in `n` tries with probability `p` each.
#
# **Predict first:** how likely are at most two hits of five?

# %%
predict("chance", ...)


# %% nbgrader={"grade_id": "chance", "solution": true}
def at_most(hits, n, p):
    """Probability of at most `hits` hits in n tries."""
    ### BEGIN SOLUTION
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(hits + 1))
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-chance", "grade": true, "locked": true, "points": 2}
check("chance", at_most)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Exactly k hits: `math.comb(n, k)` orders, each with the probability p to the power k, times 1 − p to the power n − k.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Add this for k from 0 to `hits`: `range(hits + 1)`.
#
# </details>

# %% [markdown] tags=["solution"]
# 5.8 %. A well calibrated person has so few hits once in seventeen tests, so a class of twenty has about one such
# person. Five guesses are too few to call a person badly calibrated.

# %% [markdown]
# ## The optimiser's five runs
#
# The optimiser changes one or two numbers at a time, and learns from what it measured. Its runs take as long as yours.

# %%
theirs = both.run_optimiser()
theirs

# %% [markdown]
# ### Exercise 3.6 · How many runs an effect needs
#
# ★★★ · 5 minutes
#
# An idea improves `val_bpb` by `effect`, and a run has the deviation `sigma`. You run the idea n times and the
# incumbent n times. How large must n be, so that the effect is two standard errors of the difference? Write
# `runs_needed(effect, sigma)`; do not round.
#
# **Predict first:** for an effect of half a σ, is it nearer to 4, 8 or 32 runs of each?

# %%
predict("runs-needed", ...)


# %% nbgrader={"grade_id": "runs-needed", "solution": true}
def runs_needed(effect, sigma):
    """Runs of each side until the effect is two standard errors of the difference."""
    ### BEGIN SOLUTION
    error = effect / 2
    return 2 * sigma**2 / error**2
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-runs-needed", "grade": true, "locked": true, "points": 2}
check("runs-needed", runs_needed)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Lesson 2: the error of the difference of two means of n runs is σ √(2/n). It shall be half of the effect.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# σ √(2/n) = effect / 2. Take the square of both sides, and solve for n.
#
# </details>

# %% [markdown] tags=["solution"]
# n = 8 σ² / effect². For half a σ that is 32 runs of each, and for a tenth of σ it is 800. A night has too few runs to
# measure small effects, and an agent that reports one has mostly found luck.

# %% [markdown]
# ### Exercise 3.7 · You and the optimiser
#
# ★★☆ · 4 minutes
#
# The last score that was kept in your study is compared with that of the optimiser. Write `who_won(difference, error)`.
# The difference is yours minus the optimiser's, and lower is better. Return `"me"` or `"optimiser"` when the difference
# is more than two errors from 0, and `"cannot say"` otherwise.
#
# **Predict first:** what will it return for the two of you?

# %%
predict("who-won", ...)


# %% nbgrader={"grade_id": "who-won", "solution": true}
def who_won(difference, error):
    """Who may be said to have won, in one of three texts."""
    ### BEGIN SOLUTION
    if abs(difference) <= 2 * error:
        return "cannot say"
    return "me" if difference < 0 else "optimiser"
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-who-won", "grade": true, "locked": true, "points": 1}
check("who-won", who_won)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# First ask whether anything can be said at all. The sign comes after that.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `abs(difference) <= 2 * error` means that nothing can be said. Lower is better.
#
# </details>

# %% [markdown] tags=["solution"]
# With five ideas each, the function mostly returns `"cannot say"`. Besides, both kept scores are a little too low: each
# of them was kept because it was low, and a part of that was luck. Lesson 4 measures how large this part is.

# %%
difference, error = both.difference
print(f"you minus the optimiser: {difference:+.4f} ± {error:.4f} bits per byte: {who_won(difference, error)}")

# %%
both

# %% [markdown]
# ## What you have now
#
# - An expectation has to be written before the run, with an interval.
# - Calibration is a skill: hits, bias and the price of an interval measure it.
# - A few runs can find large effects only. "Cannot say" is a result, too.
#
# Next: [lesson 4](4-noise.ipynb) is about the luck in every number.

# %%
progress()
