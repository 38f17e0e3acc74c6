"""Why a training may not have gone on exactly, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# What a remark on a fit says, see `remarks`.
CAUSES: dict[str, str] = {
    "never": "resume='never' asks for a training that begins anew each time",
    "unsaved": "{what} has attributes that cannot be saved: give it get_state() and set_state()",
    "stateless": (
        "{what} keeps nothing in its attributes: where it changes the training by something else, "
        "such as a global variable or a file, keep that in an attribute, or give it get_state() "
        "and set_state()"
    ),
    "function": (
        "what the functions of {what} keep outside of them, such as in a global variable, is not "
        "saved: write a callback that keeps it in an attribute"
    ),
    "dataset": (
        "what a {what} draws at random is the same again only with seeds: "
        "shuffle(..., seed=...), and no np.random or random in its functions"
    ),
}
# What a kind of difference says by itself, see `comparison`.
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
        "something draws from Python's or NumPy's global generator another number of times, such "
        "as a thread that reads data ahead, or what the program draws when it starts"
    ),
}


def causes_of(kinds: Iterable[str], remarks: Sequence[Sequence[str]]) -> list[str]:
    """What may be behind differences.

    Args:
        kinds: of the differences.
        remarks: (kind, what) of the fits that differ.

    Returns:
        A sentence for each, the most probable first.

    Example:
        >>> causes_of(["history"], [("never", "")])
        ["resume='never' asks for a training that begins anew each time"]
    """
    found = [CAUSES[kind].format(what=what) for kind, what in remarks]
    found += [OF_DIFFERENCES[kind] for kind in kinds if kind in OF_DIFFERENCES]
    return list(dict.fromkeys(found))
