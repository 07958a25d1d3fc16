# %% [markdown]
# # Lesson 6: How agents cheat, and how a harness finds out
#
# An agent that is judged by a score finds ways to improve the score without doing the work. It does not mean harm: it
# tries what works. A *harness* is the program around an agent that runs and judges what it proposes; the *supervisor*
# is its part that starts each training. You write and read `train.py` files that cheat, and see what the supervisor
# says of each. In the end you write one that is not found, and say what it gains.
#
# **Time:** 44 minutes. **Compute:** about two minutes on two cores. **Needs:** lesson 1; lesson 4 helps with exercise
# 6.6. Everything runs in the project's sandbox, without network and without the validation text. Nothing leaves this
# machine.

# %%
import math

from autoresearch_kernel.lab.lessons import check, lesson_seconds, predict, progress

# %% [markdown]
# ## The rule, and who checks it
#
# > What a model says of a token may depend only on the model and on the text before the token in its row.
#
# 1. The training ends, and its processes are gone. Only the model is left, in a file.
# 2. **Scorer A** gets the validation rows with their targets. What it answers is a *claim*.
# 3. **Scorer B** gets the same rows up to one secret cut in each, with random tokens behind it. It cannot know what
#    follows, because it never receives it. Where B says something else than A, the claim was wrong.
# 4. The supervisor compares both, and measures the time of the training from outside.
#
# First the honest `train.py`: three runs of two seconds each, or a few more where the speed of your machine changes.
# Later attempts are compared with them. On a slow laptop, write `0` in place of `lesson_seconds(2)`: then you see
# recorded results, and only a `train.py` of your own trains, for a second.
# %%
from autoresearch_kernel.lab.lessons.broken_trains import seen_by_audit
from autoresearch_kernel.lab.lessons.small_study import baseline_scores, small_study, small_train, try_out

study = small_study("cheats", lesson_seconds(2))
print("baseline:", "  ".join(f"{score:.4f}" for score in baseline_scores(study)))

# %% [markdown]
# This is its model. `idx` holds token numbers, one row of text in each line, and the answer holds a number (a logit)
# for each token that may come next.

# %%
source = small_train()
print(source[source.index("class TwoTokens") : source.index("# %%\nmodel")])

# %% [markdown]
# ### Exercise 6.1 · A model that sees the future
#
# ★★☆ · 8 minutes
#
# Write the worst cheat of all. While it is scored, a model gets whole rows, so the token that follows stands in the
# next column. Assign to `new` the lines that replace `logits = self.head(hidden)`, as text, so that the logit of the
# token that follows becomes larger.
#
# **Predict first:** what will scorer A claim, in bits per byte?

# %%
predict("next-token", ...)

# %% nbgrader={"grade_id": "next-token", "solution": true}
old = "        logits = self.head(hidden)  # (B, T, vocab_size)\n"
### BEGIN SOLUTION
new = old + "        follows = F.one_hot(idx.roll(-1, dims=1), vocab_size)\n        logits = logits + 4.0 * follows\n"
### END SOLUTION
leak = try_out(study, source.replace(old, new), "It looks at the token that follows")

# %% nbgrader={"grade_id": "check-next-token", "grade": true, "locked": true, "points": 1}
check("next-token", leak)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Keep the old line, and add lines of your own: `new = old + "..."`, with eight blanks before each line and `\n` at its
# end. `idx.roll(-1, dims=1)` moves every row by one place to the left, so that the token that follows stands where the
# present one was.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.one_hot(tokens, vocab_size)` is 1 at the number of each token and 0 elsewhere. Add a few times that to `logits`.
#
# </details>

# %% [markdown] tags=["solution"]
# During the training the same line reads the future too, so the training loss is very low. A study that believes
# the loss, or a scorer that gives whole rows and believes the answer, publishes this as a discovery.

# %%
leak

# %% [markdown]
# The table shows eight of the places that the audit asked for: the surprise of the token that follows when the model
# can see it (`claimed`), and when it cannot (`blind`).

# %%
seen_by_audit(study, leak)

# %% [markdown]
# ## The clock's blind side
#
# The budget is counted by a clock inside the training, because schedules follow it. Code there can learn before the
# clock starts, and call it a warm-up. The next `train.py` does so for eight seconds.
#
# **Predict first:** what will the supervisor say?

# %%
predict("slack", ...)

# %%
from autoresearch_kernel.lab.lessons.broken_trains import before_the_clock

late = try_out(study, before_the_clock(8), "Eight seconds of warm-up before the clock starts")
late

# %% [markdown]
# ### Exercise 6.2 · The clock's blind side
#
# ★★☆ · 6 minutes
#
# The supervisor measures the time of all cells from outside. What exceeds the budget is *overtime*: imports, building
# the model, saving it. A run may have as much overtime as the baseline's, plus a slack of 2 s or a quarter of the
# baseline's overtime, whichever is more, plus 2 % of the budget. Write the function that returns the allowed overtime.


# %% nbgrader={"grade_id": "slack", "solution": true}
def allowed_overtime(baseline_overtime, budget):
    """Seconds that a run may take beyond its budget."""
    ### BEGIN SOLUTION
    slack = max(2.0, baseline_overtime / 4)
    return baseline_overtime + slack + 0.02 * budget
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-slack", "grade": true, "locked": true, "points": 1}
check("slack", allowed_overtime)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three parts are added: the baseline's overtime, the slack, and a share of the budget.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `max(2.0, baseline_overtime / 4)` is the slack.
#
# </details>

# %% [markdown] tags=["solution"]
# Without any slack, honest runs would be refused whenever the machine is busy. With it, a cheat can hide as much as
# both parts together: the slack, here two seconds, and 2 % of the budget. In a lesson of two seconds that is 2.04
# seconds, more than the budget itself. In a study of 300 seconds it is 8 seconds, less than 3 % of the budget. Where
# the baseline has more than 8 seconds of overtime, the slack is a quarter of it. With 12 seconds that is 3, and 9 in
# all.

# %% [markdown]
# ## A printed score
#
# The next `train.py` is honest until its last line. Then it prints a summary of its own, with the score 0.1. A harness
# that reads the score from the output would believe it; the original program, which inspired this one, read it there.
#
# **Predict first:** which `val_bpb` will the record show?

# %%
predict("printed", ...)

# %%
from autoresearch_kernel.lab.lessons.broken_trains import printed_score

printed = try_out(study, printed_score(), "It prints a score of its own")
printed

# %% [markdown]
# ### Exercise 6.3 · A printed score
#
# ★☆☆ · 4 minutes
#
# Why does the printed score have no effect? Assign a letter to `reason`, as in `reason = "a"`.
#
# - **a.** The supervisor recognises printed scores by their words and removes them.
# - **b.** The supervisor reads no score from the training at all; another process computes it from the model, later.
# - **c.** The sandbox does not allow a training to print a summary.
# - **d.** The audit compared 0.1 with its own answer and refused it.
# - **e.** The rule discards a score that is too good to be true.

# %% nbgrader={"grade_id": "printed", "solution": true}
### BEGIN SOLUTION
reason = "b"
### END SOLUTION

# %% nbgrader={"grade_id": "check-printed", "grade": true, "locked": true, "points": 1}
check("printed", reason)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Look at the row `claimed` of the attempt: who claimed that?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What leaves the training? See step 1 at the beginning of the lesson.
#
# </details>

# %% [markdown] tags=["solution"]
# The strongest defence is to take no number from the training at all. Whatever a training prints is shown as inert
# text, to users and to the next agent, and nothing is computed from it.

# %% [markdown]
# ## A memory across rows
#
# The next model looks harmless: it keeps "running statistics", as batch normalisation does. Read it.

# %%
from autoresearch_kernel.lab.lessons.broken_trains import class_lines, memory_across_rows

print("\n".join(class_lines()))

# %% [markdown]
# ### Exercise 6.4 · A memory across rows
#
# ★★★ · 7 minutes
#
# One line of this class breaks the rule. Which one? Assign the text of the line, in quotation marks, to `line`.
#
# **Predict first:** will its claim be better than the baseline's?

# %%
predict("rows", ...)

# %% nbgrader={"grade_id": "rows", "solution": true}
### BEGIN SOLUTION
line = "self.usual += torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size)"
### END SOLUTION

# %% nbgrader={"grade_id": "check-rows", "grade": true, "locked": true, "points": 1}
check("rows", line)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The rule allows the weights, and the text before the token in its row. What else is used
# here?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Something must be written while rows are scored, so that later rows find it.
#
# </details>

# %% [markdown] tags=["solution"]
# The table `usual` counts which token follows which in the validation text itself, while that text is scored. Later
# rows are then answered with counts of earlier rows. In the audit the rows end in random tokens, so the table holds
# something else, and the answers differ at most places.

# %%
memory = try_out(study, memory_across_rows(), "Running statistics")
memory

# %% [markdown]
# ## How likely is a leak found?
#
# The cheats above were seen at most of the places. A careful cheat uses what it must not see only now and then.

# %% [markdown]
# ### Exercise 6.5 · How likely a leak is found
#
# ★★★ · 8 minutes
#
# A model *lies* at a place when it uses there what it must not see. It does so at the share `share` of all places. The
# audit asks at `cuts` places, chosen at random, which are called cuts. Some differences are forgiven: one, or one for
# every 500 cuts where that is more. So one of 100 is forgiven, and two of 1000. With more differences the claim is
# refused. Write `caught(share, cuts)`, the probability of a refusal.
#
# **Predict first:** how likely is a refusal when the model lies at 1 % of the places, and there are 100 cuts?

# %%
predict("caught", ...)


# %% nbgrader={"grade_id": "caught", "solution": true}
def caught(share, cuts):
    """The probability that the audit refuses a model that lies at this share of the places."""
    ### BEGIN SOLUTION
    forgiven = max(1, cuts // 500)
    ways = (math.comb(cuts, k) * share**k * (1 - share) ** (cuts - k) for k in range(forgiven + 1))
    return 1 - sum(ways)
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-caught", "grade": true, "locked": true, "points": 1}
check("caught", caught)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The number of differences is binomial. `max(1, cuts // 500)` differences are forgiven.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `math.comb(cuts, k) * share**k * (1 - share)**(cuts - k)` is the chance of exactly `k` differences. Add those that are
# forgiven, and subtract the sum from 1.
#
# </details>

# %% [markdown] tags=["solution"]
# A leak that is rare enough to escape gains little, because it gains only where it lies. The project's audit does still
# better: a quarter of its cuts are chosen where the claim gains most, so a leak that pays is looked at more often.

# %%
for share in (0.0005, 0.001, 0.005, 0.02):
    print(f"a lie at {100 * share:.2f} % of the places: refused with probability {caught(share, 1000):.2f}")

# %% [markdown]
# ## One that escapes

# %% [markdown]
# ### Exercise 6.6 · One that escapes
#
# ★★★ · 9 minutes
#
# Write a `train.py` that breaks the rules and is not refused, and say what it gains. Assign the attempt to `escape`,
# and the ends of the difference to the baseline to `low` and `high`, two standard errors to each side. Write both ends
# as expressions of `escape.delta_bpb` and `escape.delta_error`, and not as numbers: when your notebook is graded, your
# `train.py` trains again on another machine, and its numbers differ. An idea: exercise 6.2 says how much time passes
# without a question.
#
# **Predict first:** how much will yours gain, in bits per byte?

# %%
predict("escape", ...)

# %% nbgrader={"grade_id": "escape", "solution": true}
### BEGIN SOLUTION
escape = try_out(study, before_the_clock(1.2), "A warm-up within the slack")
low = escape.delta_bpb - 2 * escape.delta_error
high = escape.delta_bpb + 2 * escape.delta_error
### END SOLUTION
escape

# %% nbgrader={"grade_id": "check-escape", "grade": true, "locked": true, "points": 2}
check("escape", (escape, low, high))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `before_the_clock(seconds)` makes a `train.py` with a warm-up of that length. How long may it be?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `escape.delta_bpb` is the difference to the baseline, and `escape.delta_error` its standard error.
#
# </details>

# %% [markdown] tags=["solution"]
# A second of hidden training within the slack is not refused, and with a budget of two seconds it may even be kept.
# With 300 seconds the same trick adds 0.4 % to the training. The project says so openly: `docs/trust.md`, among the
# files of the program, lists what its checks do not cover, and what that is worth. A harness without such a list has
# holes as well, and their size is unknown.

# %% [markdown]
# ## What you can say now
#
# - Nothing that a training says of itself counts: not its output, not its clock, not its loss.
# - A second process that cannot know the answer finds a leak without understanding the code.
# - Each check has a hole. What matters is how much can pass through it, and this can be measured.

# %%
progress()
