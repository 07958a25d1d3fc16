"""How often `autoresearch rerun` is right: claims of an honest study, and claims whose gain was inflated by 3 sigma.

python benchmarks/rerun.py [--cases 4000]

One sigma is 1. A claim is the difference of two means, with the sigma that its study estimated. "chosen" claims were
kept by the rule from many proposals, most of which have no effect, so they look better than they are; other claims are
of a fixed gain. The command's looks after each pair are simulated as it makes them.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.core.decide import decide, mean
from autoresearch_kernel.core.rerun import FIRST_SEEDS, MOST_SEEDS, Claim, Difference, rerun_says

INFLATED = 3.0
MANY_SEEDS = 60  # at most, where trainings cost nothing
CLAIMS = ((1, 3), (2, 3), (2, 6), (6, 6))  # runs of the experiment and of its parent behind a claim
Case = tuple[float, Claim]  # the true difference, and what is claimed


def estimated_sigma(dice: random.Random, degrees: int) -> float:
    return math.sqrt(sum(dice.gauss(0, 1) ** 2 for _ in range(degrees)) / degrees)


def claim_of_gain(dice: random.Random, gain: float, runs: int, incumbent_runs: int, degrees: int) -> Case:
    noise = math.sqrt(1 / runs + 1 / incumbent_runs)
    sigma = estimated_sigma(dice, degrees)
    return -gain, Claim(Difference(dice.gauss(-gain, noise), sigma * noise, degrees), sigma)


def chosen_claims(dice: random.Random, degrees: int, incumbent_runs: int = 3) -> Iterator[Case]:
    """Claims of changes that the rule kept; a fifth of the proposals has a gain, of 2 sigma on average."""
    while True:
        true = -dice.expovariate(0.5) if dice.random() < 0.2 else abs(dice.gauss(0, 1))
        sigma, theirs = estimated_sigma(dice, degrees), [dice.gauss(0, 1) for _ in range(incumbent_runs)]
        scores = [dice.gauss(true, 1)]
        verdict = decide(scores, theirs, sigma, degrees_of_freedom=degrees).verdict
        if verdict == "confirm":
            scores.append(dice.gauss(true, 1))
            verdict = decide(scores, theirs, sigma, degrees_of_freedom=degrees).verdict
        if verdict == "keep":
            error = sigma * math.sqrt(1 / len(scores) + 1 / len(theirs))
            yield true, Claim(Difference(mean(scores) - mean(theirs), error, degrees), sigma)


def answer_to(dice: random.Random, true: float, claim: Claim, first: int, most: int) -> tuple[str, int]:
    """The answer of a machine on which the true difference is the same, and the pairs that it took."""
    mine = [dice.gauss(true, 1) for _ in range(most)]
    theirs = [dice.gauss(0, 1) for _ in range(most)]
    for pairs in range(first, most + 1):
        found = rerun_says(claim, mine[:pairs], theirs[:pairs], is_last=pairs == most)
        if found.answer != "cannot tell":
            return found.answer, pairs
    return "cannot tell", most


def inflated(case: Case) -> Case:
    true, claim = case
    claimed = claim.difference
    more = Difference(claimed.bpb - INFLATED, claimed.error, claimed.degrees_of_freedom)
    return true, Claim(more, claim.sigma)


def best_possible(runs: int, incumbent_runs: int) -> float:
    """The largest share of right answers, of honest and of inflated claims alike, that any rule can have.

    It is that of a machine which knows the true difference and sigma exactly, so that only the error of the claim is
    left, and which never says that it cannot tell. By the lemma of Neyman and Pearson no rule separates two normal
    distributions that lie INFLATED apart better than the middle between them does.
    """
    return statistics.NormalDist().cdf(INFLATED / 2 / math.sqrt(1 / runs + 1 / incumbent_runs))


def shares(dice: random.Random, cases: int, make: Callable[[], Case], first: int, most: int) -> str:
    answers: Counter[str] = Counter()
    pairs = 0
    for _ in range(cases):
        answer, needed = answer_to(dice, *make(), first, most)
        answers[answer] += 1
        pairs += needed
    told = [answers[name] / cases for name in ("agrees", "contradicts", "cannot tell")]
    most_error = max(math.sqrt(share * (1 - share) / cases) for share in told)
    return " ".join(f"{share:9.1%}" for share in told) + f"  ± {most_error:.1%}  {pairs / cases:5.1f} pairs"


def by_truth(dice: random.Random, cases: int, degrees: int) -> Iterator[str]:
    """Of changes that the rule kept: how many have no true gain or most of the claimed one, and their answers."""
    make = chosen_claims(dice, degrees)
    kept = [next(make) for _ in range(cases)]
    for what, of in (
        ("no true gain", [case for case in kept if case[0] >= 0]),
        ("at least half of the claim true", [case for case in kept if case[0] <= case[1].difference.bpb / 2]),
    ):
        share, each = len(of) / cases, iter(of)
        told = f"{what}: {share:.0%} ± {math.sqrt(share * (1 - share) / cases):.1%} of {cases} kept"
        yield f"{told:<66} {shares(dice, len(of), lambda each=each: next(each), FIRST_SEEDS, MOST_SEEDS)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="How often `autoresearch rerun` is right, in simulated studies.")
    parser.add_argument("--cases", type=int, default=4000)
    cases, dice = parser.parse_args().cases, random.Random(1)
    looks = ((FIRST_SEEDS, FIRST_SEEDS), (FIRST_SEEDS, MOST_SEEDS), (FIRST_SEEDS, MANY_SEEDS))
    for runs, theirs in CLAIMS:
        print(f"{runs} runs against {theirs}: no rule has more right answers than {best_possible(runs, theirs):.2%}")
    print(f"{'':<66} {'agrees':>9} {'contrad.':>9} {'open':>9}")
    for first, most in looks:
        for degrees in (2, 12):
            chosen = chosen_claims(dice, degrees)
            what = f"seeds {first}..{most}, {degrees} degrees, kept by the rule"
            print(f"{what + ', honest':<66} {shares(dice, cases, lambda c=chosen: next(c), first, most)}")
            print(f"{what + ', inflated':<66} {shares(dice, cases, lambda c=chosen: inflated(next(c)), first, most)}")
        for runs, theirs in CLAIMS:
            make = lambda a=runs, b=theirs: claim_of_gain(dice, 4.0, a, b, 12)  # noqa: E731
            what = f"seeds {first}..{most}, 12 degrees, {runs} runs against {theirs}, gain 4"
            print(f"{what + ', honest':<66} {shares(dice, cases, make, first, most)}")
            print(f"{what + ', inflated':<66} {shares(dice, cases, lambda m=make: inflated(m()), first, most)}")
    for line in by_truth(dice, cases, 12):
        print(line)


if __name__ == "__main__":
    main()
