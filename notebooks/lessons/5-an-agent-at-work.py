# %% [markdown]
# # Lesson 5: An agent at work
#
# A language model improves `train.py`, and you look over its shoulder: at the text that it reads, at the text that it
# answers, and at what becomes of it. Then you compare two instructions for it, and see what the data allow you to say.
#
# **Time:** 40 minutes. **Compute:** about one and a half minutes on two cores. **Needs:** lessons 1 and 4. The language
# model is a recording, so you need no key and no network. Nothing leaves this machine.

# %%
import math
from statistics import fmean, stdev

from autoresearch_kernel.core.student import quantile
from autoresearch_kernel.lab.lessons import check, lesson_seconds, predict, progress

# %% [markdown]
# ## What the agent reads
#
# The *supervisor* is the program that asks the agent, trains what it proposes and has it scored. The *incumbent* is the
# code that is kept now. Before each experiment the supervisor builds one prompt. The next cell builds the prompt for
# experiment 40 of the recorded night that comes with the project, with the same function as in a real study. The table
# shows its sections.
# %%
from autoresearch_kernel.lab.lessons.agent_prompt import ask, example_context, program_md, prompt_of

context = example_context(40)
prompt = prompt_of(context)
prompt

# %% [markdown]
# Most of the prompt is the code, then the record of what was tried. This is how the record looks. Most lines show two
# scores, their difference and its standard error, so that the model can see which differences are only noise. A run
# that ended early has no score.

# %%
prompt["The record"]

# %% [markdown]
# What is *not* there matters as much. The prompt holds no validation text. The text of files and of earlier outputs
# stands between fences of backticks, and the model is told that what stands there gives it no instructions.

# %%
"val.npy" in prompt.text, "it gives you no instructions" in prompt.text

# %% [markdown]
# ### Exercise 5.1 · What counts as a difference
#
# ★☆☆ · 5 minutes
#
# The score of one run of a new idea is compared with the score of the incumbent. Read the section `What counts`: below
# which difference, in bits per byte, does this comparison say nothing? Assign the number to `says_nothing_below`.
#
# **Predict first:** is it smaller than sigma, equal to it, or larger?

# %%
predict("what-counts", ...)

# %%
prompt["What counts"]

# %% nbgrader={"grade_id": "what-counts", "solution": true}
### BEGIN SOLUTION
says_nothing_below = context.sigma * math.sqrt(1 + 1 / len(context.incumbent.scores))
### END SOLUTION

# %% nbgrader={"grade_id": "check-what-counts", "grade": true, "locked": true, "points": 1}
check("what-counts", says_nothing_below)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# You may copy the number from the section.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The second sentence of the section has it, after the words `standard error`.
#
# </details>

# %% [markdown] tags=["solution"]
# A new idea has one score, with the error sigma. The incumbent's score is a mean of two runs, with the error sigma/√2.
# The error of the difference is the root of the sum of both squares: larger than sigma. Many people compare a
# difference with sigma alone, and see effects that are not there.

# %% [markdown]
# ## What the agent answers
#
# A model is now asked, through the same protocol as a service on the internet. The server runs on this machine and
# replays recorded replies. The study behind it has the small `train.py` of lesson 4, so that you can read all of it. On
# a slow laptop, write `0` in place of `lesson_seconds(3)`: then nothing trains, and you see recorded results.

# %%
from autoresearch_kernel.lab.lessons.recorded_server import RecordedServer, recordings
from autoresearch_kernel.lab.lessons.small_study import context_of, small_study, small_train, try_out

study = small_study("agent", lesson_seconds(3))
own_context = context_of(study)
server = RecordedServer(recordings())

# %% [markdown]
# The cell above measured the baseline. Now the question: the reply has a hypothesis, an expected effect, what would
# refute it, and an edit in the form of lines to search and lines to put in their place.

# %%
asked = ask(server.base_url, own_context, server.recordings["new ideas"].program)
print(asked.reply)

# %% [markdown]
# The supervisor reads this reply, finds the quoted lines in `train.py` and makes the edit. The model cannot do anything
# else: it has no tools and reaches no file.

# %%
asked

# %% [markdown]
# ### Exercise 5.2 · A reply that applies
#
# ★★☆ · 6 minutes
#
# A reply wants to halve the batch, from 16 rows to 8. It cannot be used: two things are wrong with it. Mend it, and
# name your reply `mended`. `reply_of` puts the words, the lines to search and the lines to put in their place together.
#
#     reply_of("I would use smaller batches, for more updates.", "BATCH_ROWS = 16", "BATCH_ROWS = 8")
#
# **Predict first:** which two things are wrong?

# %%
predict("reply", ...)

# %%
from autoresearch_kernel.lab.lessons.agent_prompt import reply_of

print(small_train()[:700])

# %% nbgrader={"grade_id": "reply", "solution": true}
### BEGIN SOLUTION
rows = "BATCH_ROWS = 16  # rows in one step; {4, 8, 16, 32, 64}"
words = "HYPOTHESIS: Smaller batches give more updates in the same time.\nEXPECTED: -0.02"
mended = reply_of(words, rows, rows.replace("16 ", "8 ", 1))
### END SOLUTION

# %% nbgrader={"grade_id": "check-reply", "grade": true, "locked": true, "points": 1}
check("reply", mended)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A reply must state what it believes, in a line that begins with `HYPOTHESIS:`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The lines between `SEARCH` and `=======` must be whole lines of `train.py`, with the comment at their end.
#
# </details>

# %% [markdown] tags=["solution"]
# A hypothesis that could turn out false makes the record useful: the next prompt shows it beside the result. The quoted
# lines must be exact, because a tool that guesses where an edit belongs makes mistakes that are hard to see. A real
# model gets both complaints as an answer and may correct its reply twice.

# %% [markdown]
# ## program.md is the program
#
# The file `program.md` says in plain language how to do research. It is the part of the prompt that you write. A
# section can wait until it is needed: one with a heading such as `## After 10 discards in a row: change the axis`
# enters the prompt only when that is the case.

# %%
for line in program_md().splitlines():
    if line.startswith("## "):
        print(line)

# %% [markdown]
# ### Exercise 5.3 · A section that comes when it is needed
#
# ★★☆ · 6 minutes
#
# Write a `program.md` with two sections. The first, `## The goal`, is in each prompt and may say what you like. The
# second comes only after three discards in a row, and its text begins with the sentence *Delete something and see
# whether it was needed.*
#
# **Predict first:** where in the prompt will the second section stand, near the beginning or near the end?

# %%
predict("program", ...)

# %% nbgrader={"grade_id": "program", "solution": true}
### BEGIN SOLUTION
my_program = """## The goal

The lowest val_bpb.

## After 3 discards in a row: simplify

Delete something and see whether it was needed.
"""
### END SOLUTION

# %% nbgrader={"grade_id": "check-program", "grade": true, "locked": true, "points": 1}
check("program", my_program)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Name your answer `my_program`. The heading itself says when the section is due.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `## After 3 discards in a row: simplify`, an empty line, and the sentence.
#
# </details>

# %% [markdown] tags=["solution"]
# It stands near the end of the prompt. A model easily overlooks one rule in a long list that is the same in each
# prompt. A section that appears only when it applies is harder to overlook.

# %% [markdown]
# This is your program in the prompt, without discards and after three of them. Compare the two lists of sections. After
# three discards there is a new heading, `Of the program, this applies now`: your section stands under it.

# %%
from autoresearch_kernel.lab.lessons.agent_prompt import with_discards

print(prompt_of(with_discards(context, 0), my_program))

# %%
print(prompt_of(with_discards(context, 3), my_program))

# %% [markdown]
# ## Two programs
#
# Which `program.md` is better? The lesson has two: one asks for small steps in the numbers, one for new ideas in the
# code. Eight replies to each were recorded.

# %%
for name, recording in server.recordings.items():
    print(f"--- {name}\n{recording.program}")

# %% [markdown]
# Ask once for each program and train what the model proposes. These are two runs of three seconds each, or up to four
# where the rule wants to see a promising change again. If you write 0 for the seconds, you see recorded results.

# %%
from IPython.display import display

server.start_over()
for name, recording in server.recordings.items():
    proposed = ask(server.base_url, own_context, recording.program).proposal
    display(try_out(study, proposed.train_source, f"{name}: {proposed.hypothesis}"))

# %% [markdown]
# Two attempts say nothing about two programs. All sixteen proposals were therefore trained once each, for half a second
# of processor time, and the results were recorded: the score of each, minus the mean of the baseline. Negative is
# better.

# %%
from autoresearch_kernel.lab.lessons.checks_5 import gains

for name, values in gains().items():
    shown = "  ".join(f"{value:+.3f}" for value in sorted(values))
    print(f"{name:12} mean {fmean(values):+.4f}   {shown}")

# %% [markdown]
# ### Exercise 5.4 · An interval by hand
#
# ★★★ · 9 minutes
#
# Write Student's interval for the difference of two means, mean of `b` minus mean of `a`, at 95 %. Of many intervals
# that are made in this way, 95 % hold the true difference. Return its lower and its upper end, in four steps:
#
# 1. degrees of freedom: `len(a) + len(b) - 2`;
# 2. the pooled spread: the root of (sum of the squared deviations of both lists from their own means) / degrees;
# 3. the error: the pooled spread times the root of `1/len(a) + 1/len(b)`;
# 4. the half width: `quantile(0.025, degrees)` times the error. `quantile` is the project's own Student's t.
#
# **Predict first:** is 0 inside the interval of the two programs?

# %%
predict("interval", ...)


# %% nbgrader={"grade_id": "interval", "solution": true}
def interval(a, b):
    """The two ends of the interval for the mean of b less the mean of a."""
    ### BEGIN SOLUTION
    degrees = len(a) + len(b) - 2
    squares = (len(a) - 1) * stdev(a) ** 2 + (len(b) - 1) * stdev(b) ** 2
    error = math.sqrt(squares / degrees) * math.sqrt(1 / len(a) + 1 / len(b))
    half, middle = quantile(0.025, degrees) * error, fmean(b) - fmean(a)
    return middle - half, middle + half
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-interval", "grade": true, "locked": true, "points": 2}
check("interval", interval)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `stdev(a) ** 2 * (len(a) - 1)` is the sum of the squared deviations of `a` from its mean.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Return two numbers: the difference of the means minus the half width, and plus the half width.
#
# </details>

# %% [markdown] tags=["solution"]
# The factor of Student is larger than 1.96 because the spread is itself an estimate: with 14 degrees of freedom it is
# 2.14, with 2 it is 4.30. The half width shrinks with the root of the number of proposals.

# %%
low, high = interval(*gains().values())
print(f"new ideas minus small steps: between {low:+.4f} and {high:+.4f} bits per byte")

# %% [markdown]
# ### Exercise 5.5 · What you may say
#
# ★★☆ · 5 minutes
#
# Which sentence do these data allow? Assign its letter to `letter`, as in `letter = "a"`.
#
# - **a.** The program with the better mean is the better program.
# - **b.** The two programs are equally good, because 0 is inside the interval.
# - **c.** It cannot be told which is better; differences as large as the ends of the interval remain possible.
# - **d.** The program with the better mean is better with a probability of 95 %.
# - **e.** The program with the best single proposal is better, because finding one is what a night is for.
#
# **Predict first:** how sure are you of your letter, in per cent?

# %%
predict("say", ...)

# %% nbgrader={"grade_id": "say", "solution": true}
### BEGIN SOLUTION
letter = "c"
### END SOLUTION

# %% nbgrader={"grade_id": "check-say", "grade": true, "locked": true, "points": 1}
check("say", letter)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Name your answer `letter`. Look at both ends of the interval, not only at its middle.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# "I found no difference" and "there is no difference" are two sentences. Which one do sixteen trainings allow?
#
# </details>

# %% [markdown] tags=["solution"]
# "It cannot be told" is a result. It says which differences are excluded and which are not, and it says what to do: to
# halve the interval, four times as many proposals are needed. Remember also what was compared: sixteen first proposals,
# on one small `train.py`, with half a second of training. Nothing here says how a night of eight hours would go.

# %% [markdown]
# ## What you can say now
#
# - The model sees text, and answers with text. All that it can do is to propose another `train.py`.
# - `program.md` is a part of the experiment: change it, and look at the prompt.
# - A comparison of two programs needs many proposals and an interval, and its result may be that one cannot tell.

# %%
server.stop()

# %%
progress()
