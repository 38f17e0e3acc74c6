"""Sentences on why a training may not have resumed exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# By the kinds of `caveats.find_caveats`.
CAUSES: dict[str, str] = {
    "never": "resume='never' starts a new training each time",
    "unsaved": "{what} has attributes that cannot be saved: give it get_state() and set_state()",
    "stateless": (
        "{what} keeps nothing in its attributes: where it changes the training by another state, "
        "such as a global variable or a file, keep that in an attribute, or give it get_state() "
        "and set_state()"
    ),
    "function": (
        "state that the functions of {what} keep outside of them, such as in a global variable, is "
        "not saved: write a callback that keeps it in an attribute"
    ),
    "dataset": (
        "a {what} draws the same random numbers again only with seeds: "
        "shuffle(..., seed=...), and no np.random or random in its functions"
    ),
}
# By the kinds of `resume_comparison.Difference`.
OF_DIFFERENCES: dict[str, str] = {
    "directories": (
        "a run directory must have the same name each time the program is started: leave time, "
        "random numbers and process ids out of it"
    ),
    "own callback": (
        "an attribute of a callback must follow from the training alone, not from the time, the "
        "process or how often it was started"
    ),
    "random numbers": (
        "the program draws from Python's or NumPy's global generator a different number of times, "
        "such as in a thread that reads data ahead, or when it starts"
    ),
}


def causes_of(kinds: Iterable[str], caveats: Sequence[Sequence[str]]) -> list[str]:
    """Return the probable causes of differences.

    Args:
        kinds: the kinds of the differences.
        caveats: (kind, what) of the fits that differ, see `caveats.find_caveats`.

    Returns:
        A sentence for each, the most probable first.

    Example:
        >>> causes_of(["history"], [("never", "")])
        ["resume='never' starts a new training each time"]
    """
    found = [CAUSES[kind].format(what=what) for kind, what in caveats]
    found += [OF_DIFFERENCES[kind] for kind in kinds if kind in OF_DIFFERENCES]
    return list(dict.fromkeys(found))
