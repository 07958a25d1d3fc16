# %% [markdown]
# # Lesson 1: Bits per byte
#
# You build four models of text by hand, from counting letters to a trained network, and measure each with the same
# number: bits per byte.
#
# **Time:** 40 minutes. **Compute:** about one minute on two cores. Nothing leaves this machine.

# %%
import math

from autoresearch_kernel.lab.lessons import check, predict, progress

# %% [markdown]
# ### Exercise 1.1 · The surprise of one letter
#
# ★☆☆ · 4 minutes
#
# A model gives the letter that comes next a probability `p`. The *surprise* is the number of bits that this letter
# costs: 1 bit for a probability of one half, 2 bits for one quarter, 3 bits for one eighth.
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
# How often must 1 be halved until it is `p`? A function of the module `math` answers this.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `math.log2(1/8)` is −3. The surprise is positive.
#
# </details>

# %% [markdown] tags=["solution"]
# The logarithm to base 2 counts halvings. A probability is at most 1, so its logarithm is never positive, and the
# minus makes the surprise positive. For 1/1000 the answer is 9.97 bits, since 2¹⁰ = 1024.
