# %% [markdown]
# # Lesson 4: Noise
#
# Two trainings of the same code do not get the same score. You measure how far they differ, see what happens to a
# researcher who ignores it, and compare two rules that decide which changes are kept.
#
# **Time:** 40 minutes. **Compute:** about one and a half minutes on two cores. **Needs:** lesson 1. On a slow laptop
# you can use recorded results; the text says where. Nothing leaves this machine.

# %%
import math
from statistics import fmean

import numpy as np

from autoresearch_kernel.lab.lessons import check, lesson_seconds, predict, progress, recorded
from autoresearch_kernel.lab.lessons import noise_figures as figures

# %% [markdown]
# ## The same code five times
#
# The next cell trains the same small `train.py` five times, three seconds each. Only the seed is different: it chooses
# the starting values of the model and the order of the text. Each model is scored by the project's own scorer.
#
# **Predict first:** how far apart are the best and the worst of the five scores, in bits per byte?

# %%
predict("run-spread", ...)

# %% [markdown]
# On a slow laptop, write `0` in place of `lesson_seconds(3)`: then nothing trains, and you see recorded scores.

# %%
from autoresearch_kernel.lab.lessons.small_study import same_code, small_study

study = small_study("noise", lesson_seconds(3))
scores = same_code(study, 5)

# %% [markdown]
# Each dot is one run, and the band is one standard deviation to each side of the mean. Below are twenty runs of the
# same code that were recorded earlier, with less training: five runs tell the spread only roughly.

# %%
figures.scores_figure(scores, recorded("4-same-code")["scores"])

# %% [markdown]
# ### Exercise 4.1 · The spread of one code
#
# ★☆☆ · 5 minutes
#
# The project calls the run-to-run standard deviation *sigma*. Write the function that computes it from the scores of
# one code: the root of the mean squared distance from the mean. Divide by one less than the number of scores, because
# the mean comes from the same scores.


# %% nbgrader={"grade_id": "run-spread", "solution": true}
def spread(scores):
    """The run-to-run standard deviation of scores of one code."""
    ### BEGIN SOLUTION
    centre = sum(scores) / len(scores)
    squares = [(score - centre) ** 2 for score in scores]
    return math.sqrt(sum(squares) / (len(scores) - 1))
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-run-spread", "grade": true, "locked": true, "points": 1}
check("run-spread", spread)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three steps: the mean, the squared distances from it, and the root of their sum divided by `len(scores) - 1`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# After `import statistics`, `statistics.stdev(scores)` computes the same. Use it to compare, then write it by hand.
#
# </details>

# %% [markdown] tags=["solution"]
# The squares count large distances more than small ones, and the root brings the result back to bits per byte. With
# five runs the result is itself uncertain by about a third of its size. The project's own `estimate_sigma` does the
# same and pools every code that ran more than once.

# %% [markdown]
# The project's function gives the same number as yours. *Sigma* is the usual size of luck in one score: a change that
# gains less than this cannot be seen in one run.

# %%
from autoresearch_kernel.core.decide import estimate_sigma

print(f"your five runs: {spread(scores):.4f} by your function, {estimate_sigma([scores]):.4f} by the project's")
print(f"the recorded runs: {estimate_sigma([recorded('4-same-code')['scores']]):.4f}")

# %% [markdown]
# ## The winner's curse
#
# A researcher tries twenty changes that do nothing at all, and publishes the best score of the twenty.

# %% [markdown]
# ### Exercise 4.2 · The luck of the lowest
#
# ★★☆ · 6 minutes
#
# Write a function that draws `count` scores of one code many times, takes the lowest of each drawing, and returns the
# mean of these. The truth is 0 and sigma is 1, so the result is in sigma. `rng.normal(size=(2000, count))` draws 2000
# rows of `count` scores.
#
# **Predict first:** how many sigma below the truth is the lowest of 20, on average?

# %%
predict("winner", ...)

# %% nbgrader={"grade_id": "winner", "solution": true}
rng = np.random.default_rng(0)


def luck_of_the_lowest(count):
    """Mean of the lowest of `count` scores of one code, in sigma from the truth."""
    ### BEGIN SOLUTION
    return rng.normal(size=(2000, count)).min(axis=1).mean()
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-winner", "grade": true, "locked": true, "points": 1}
check("winner", luck_of_the_lowest)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A row of the array is one drawing. `min(axis=1)` takes the lowest of each row.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# After that there are 2000 lowest scores. Return their mean.
#
# </details>

# %% [markdown] tags=["solution"]
# The lowest of 20 is 1.87 sigma below the truth on average, and the lowest of 100 is 2.51. (The median would be 1.82
# for 20: the mean also counts how far below the rare, very lucky scores are.) There was no cheating: choosing the best
# of many noisy numbers is enough. This is called the *winner's curse*. The *champion* of a study is the code that was
# kept last. Its score was chosen because it is low, so it is too low on average, and therefore the project trains the
# champion again, with new seeds, before it reports a result.

# %% [markdown]
# The green curve shows where the lowest score lies, and the dashed line is its mean. Move the sliders: more changes
# that do nothing, and more noise. Both make the "discovery" larger.

# %%
from autoresearch_kernel.lab.lessons.sliders import sliders

sliders(figures.winner_figure, count=(1, 200), sigma=(0.0005, 0.04, 0.0005))

# %% [markdown]
# The same picture without sliders, for twenty changes and the sigma of the recorded runs.

# %%
figures.winner_figure(20, estimate_sigma([recorded("4-same-code")["scores"]]))

# %% [markdown]
# ## A recorded night
#
# Here is a recorded night: 100 changes that the project's optimiser proposed, a program that changes the numbers
# of `train.py`. Each was trained for six seconds, on a machine that other programs used as well. `first` holds the
# score of the first run of each change; number 0 is the baseline.

# %%
from autoresearch_kernel.lab.lessons import recorded_night

first = recorded_night.first_scores()
print(f"{len(first) - 1} changes; the baseline has {first[0]:.4f}, the lowest score is {min(first):.4f}")

# %% [markdown]
# ### Exercise 4.3 · The greedy rule
#
# ★★☆ · 6 minutes
#
# The greedy rule trains each change once and keeps it when its score is below the lowest score so far. Write it: from
# the list of scores to the list of the numbers that greedy keeps. Number 0 is the baseline and is not in the list.
#
# **Predict first:** how many of the 100 changes does greedy keep?

# %%
predict("greedy", ...)


# %% nbgrader={"grade_id": "greedy", "solution": true}
def greedy(scores):
    """The numbers of the changes that the greedy rule keeps."""
    ### BEGIN SOLUTION
    lowest, kept = scores[0], []
    for number, score in enumerate(scores):
        if score < lowest:
            lowest = score
            kept.append(number)
    return kept
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-greedy", "grade": true, "locked": true, "points": 1}
check("greedy", greedy)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Keep two things while you go through the list: the lowest score so far, and the numbers that were kept.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Begin with `lowest = scores[0]`. `enumerate(scores)` gives each number with its score.
#
# </details>

# %% [markdown] tags=["solution"]
# The lowest score so far is the bar that the next change must get under, and each lucky score lowers it. That is the
# weakness of greedy: after one very lucky run, even a change that is better in truth may be refused.

# %%
print(f"greedy keeps {len(greedy(first))} of the changes; the study kept {len(recorded_night.kept_numbers())}")

# %% [markdown]
# The orange line is greedy's bar: the score that the next change has to beat. The green dots are what the study really
# kept. The three highest of the 101 scores are outside of the picture. The rule of the study does not compare with the
# lowest score. It compares with the score of the code that was kept last, without the luck that it expects in that
# score. Therefore some green dots lie above the orange line. Eight of the sixteen kept changes were far below the score
# that the rule compared them with, and the rule kept them at once, after a single run. The other eight were lower by
# less, which may be luck: the rule ran them a second time before it kept them.
#
# The changes were proposed for the code that the study had kept. A greedy night would have got other proposals, so this
# is what greedy makes of these scores, and no complete night of greedy.

# %%
figures.night_figure(first, greedy(first), recorded_night.kept_numbers())

# %% [markdown]
# ### Exercise 4.4 · What a second run says
#
# ★★☆ · 5 minutes
#
# The *incumbent* is the code that is kept at that time. Its score was chosen because it was low, so the rule expects
# some luck in it and compares with a score without this luck, which is a little higher. When a first score was below
# that by an amount that may be luck, the study ran the same code once more, with another seed. `pairs` holds both
# scores of each such change. By how much is the second score higher than the first, on average? Assign a number, in
# bits per byte, to `mean_rise`.
#
# **Predict first:** is the second score higher, lower, or the same on average?

# %%
predict("regress", ...)

# %%
pairs = recorded_night.pairs_run_twice()
figures.pairs_figure(pairs)

# %% nbgrader={"grade_id": "regress", "solution": true}
### BEGIN SOLUTION
mean_rise = fmean(second - first_score for first_score, second in pairs)
### END SOLUTION

# %% nbgrader={"grade_id": "check-regress", "grade": true, "locked": true, "points": 1}
check("regress", mean_rise)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Each pair is `(first score, second score)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `fmean(b - a for a, b in pairs)` is the mean of the differences.
#
# </details>

# %% [markdown] tags=["solution"]
# The code did not become worse between the two runs. Only low first scores were run again, and a low score is low
# partly because of luck, which the second run does not have. The same happens to the champion of every study.

# %% [markdown]
# ## Two rules, and nights whose truth is known
#
# In a recorded night the truth is not known. In a simulated one it is. A simulated night has 120 trainings; most
# proposals are a little worse than the incumbent, 28 % are better by a typical 0.0002 bits per byte, and a score has a
# sigma of 0.0003 (`docs/decisions.md` among the files of the program says where these numbers come from). The next cell
# shows one night of each rule. `true_gain` is what the kept code gained in truth, in bits per byte, and `reported_gain`
# is what the scores say. `kept` counts the changes that were kept, and `kept_in_vain` those of them that made nothing
# better. `confirmations` counts the second runs.

# %%
from autoresearch_kernel.lab.lessons.simulated_nights import mean_and_error, simulate, simulate_many

for rule in ("greedy", "confirm"):
    print(f"{rule:8} {simulate(rule, seed=1)}")

# %% [markdown]
# The result of one night depends a lot on luck. Here are forty nights of each rule, with the same proposals for both.
# The rule `confirm` is the project's own: its repeated runs count among the same 120 trainings. All gains are in
# thousandths of a bit per byte.

# %%
rules = {rule: simulate_many(rule, 40) for rule in ("greedy", "confirm")}
for rule, nights in rules.items():
    gain, error = mean_and_error([1000 * night.true_gain for night in nights])
    said, _ = mean_and_error([1000 * night.reported_gain for night in nights])
    print(f"{rule:8} true gain {gain:.2f} ± {error:.2f}, reported {said:.2f}")

# %% [markdown]
# The errors are large because nights differ a lot. But both rules met the same nights, so their difference in each
# night is known better than either mean. This is called a *paired* comparison.

# %%
pairs_of_nights = zip(rules["greedy"], rules["confirm"], strict=True)
more = [1000 * (confirm.true_gain - greedy.true_gain) for greedy, confirm in pairs_of_nights]
print("confirm gains more by {:.2f} ± {:.2f} thousandths".format(*mean_and_error(more)))

# %% [markdown]
# Greedy reports more than it found. Now make the world noisier. The picture shows what was gained in truth. With the
# slider at 0.001 greedy gains about 0.8 thousandths, while its scores report about 3.2.


# %%
def both_rules(sigma):
    nights = {rule: simulate_many(rule, 10, sigma=sigma) for rule in ("greedy", "confirm")}
    return figures.gain_figure(nights)


sliders(both_rules, sigma=(0.0001, 0.0015, 0.0001))

# %% [markdown]
# The same picture without a slider, at the sigma of 0.0003. The bands are standard errors. The lines become flatter:
# the better the code, the less is left to find, while the noise stays as large as it was.

# %%
figures.gain_figure(rules)

# %% [markdown]
# ### Exercise 4.5 · A fixed threshold
#
# ★★★ · 8 minutes
#
# A natural idea is to ask more of a score: greedy keeps a change only when it is below the lowest score by a fixed
# threshold, in sigma. The next cell simulates sixty nights for each of five thresholds. Which threshold gains most in
# truth? Assign it as a number to `best_threshold`, and find a reason before you look at the solution.
#
# **Predict first:** which threshold is best, 0, 0.5, 1, 2 or 3 sigma?

# %%
predict("threshold", ...)

# %%
thresholds = [0.0, 0.5, 1.0, 2.0, 3.0]
found = {at: simulate_many("greedy", 60, threshold=at) for at in thresholds}
figures.threshold_figure(found)

# %% nbgrader={"grade_id": "threshold", "solution": true}
### BEGIN SOLUTION
best_threshold = 0
### END SOLUTION

# %% nbgrader={"grade_id": "check-threshold", "grade": true, "locked": true, "points": 1}
check("threshold", best_threshold)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Look at the green line, what was gained in truth, and not at what was reported.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# How lucky is the lowest score of the twenty runs so far? Exercise 4.2 has the number. How much better must the next
# change be, to get a score below that?
#
# </details>

# %% [markdown] tags=["solution"]
# The bar is the lowest score so far, and that score is lucky by one sigma or more. A change that is just as good as the
# incumbent therefore passes the bar rarely, without any threshold. A threshold on top refuses the real gains, which are
# smaller than sigma, and a refused gain is lost. A second run costs one training and separates luck from gain much
# better: this is why the project confirms instead.

# %% [markdown]
# Move the threshold and the noise yourself. Is there a place where a threshold helps?


# %%
def one_threshold(threshold, sigma):
    nights = simulate_many("greedy", 60, threshold=threshold, sigma=sigma)
    gain, error = mean_and_error([1000 * night.true_gain for night in nights])
    in_vain = fmean(night.kept_in_vain for night in nights)
    return f"true gain {gain:.2f} ± {error:.2f} thousandths, {in_vain:.1f} kept in vain in each night"


sliders(one_threshold, threshold=(0.0, 3.0, 0.25), sigma=(0.0001, 0.0015, 0.0001))

# %% [markdown]
# The same without sliders, for a sigma of 0.001: a higher threshold gains less. (With a sigma of 0.0015, a threshold of
# 0.5 gains about as much as a threshold of 0.)

# %%
for threshold in (0.0, 1.0, 2.0):
    print(one_threshold(threshold, 0.001))

# %% [markdown]
# ## When to stop
#
# The result of a study is a difference of two means: `n` new runs of the champion and `n` of the baseline. Its
# standard error is `sigma * sqrt(2 / n)`. It falls slowly, so the last digits are expensive.

# %%
figures.errors_figure(estimate_sigma([recorded("4-same-code")["scores"]]))

# %% [markdown]
# ### Exercise 4.6 · When you may stop measuring
#
# ★★☆ · 6 minutes
#
# You want to publish a difference only when its standard error is at most half of it. Write the function that returns
# how many runs each of the two codes needs, as a whole number.
#
# **Predict first:** for half the difference, how many times as many runs are needed?

# %%
predict("enough-runs", ...)


# %% nbgrader={"grade_id": "enough-runs", "solution": true}
def runs_needed(difference, sigma):
    """Runs of each code until the standard error of their difference is at most half of it."""
    ### BEGIN SOLUTION
    return math.ceil(2 * (2 * sigma / difference) ** 2)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-enough-runs", "grade": true, "locked": true, "points": 1}
check("enough-runs", runs_needed)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write down the condition `sigma * sqrt(2 / n) <= difference / 2` and solve it for `n`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Square both sides: `2 * sigma**2 / n <= difference**2 / 4`. Round the result up.
#
# </details>

# %% [markdown] tags=["solution"]
# `n` is at least `8 * sigma**2 / difference**2`. Half of the difference takes four times the runs. So there is a size
# of gain below which measuring costs more than searching, and this is a reason to stop a night: when the gains that are
# left are so small that you cannot tell them from luck within the time you have.

# %% [markdown]
# ## What you can say now
#
# - A score without its sigma says little, and the best score of many says less than the others.
# - A second run of the same code is worth more than a stricter threshold.
# - A result is a difference of means of new runs, with its standard error. `autoresearch finish` measures it so.

# %%
progress()
