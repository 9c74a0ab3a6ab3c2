"""Which lines of a page are believed, by their tokens' mean log-probability.

Measured with the embedded model: lines read without a mistake have -0.1 and more, lines with up to a tenth of their
characters wrong too, those with a third wrong -0.3. What it says to strokes, scribbles and dots lies anywhere below
-0.05, for many a stroke looks like a sign, but never has three letters or digits at -0.25.
"""

from __future__ import annotations

from collections.abc import Iterable

from .recipe import Recipe

_WORD = 3  # letters and digits
_SURE = 0.7  # of the limit
_ALONE = 1 / 7  # of the limit; where there is no word on the page


def is_sure(text: str, logprob: float, recipe: Recipe) -> bool:
    """Whether a line shows that its page holds writing."""
    return logprob >= _SURE * recipe.improbable and sum(map(str.isalnum, text)) >= _WORD


def least_logprob(recipe: Recipe, sure: bool) -> float:
    """What a line must have to be kept; more on a page where no line is `sure`."""
    return recipe.improbable * (1 if sure else _ALONE)


def least_of(lines: Iterable[tuple[str, float]], recipe: Recipe) -> float:
    """The same, of a page's (text, log-probability) lines."""
    return least_logprob(recipe, any(is_sure(text, logprob, recipe) for text, logprob in lines))
