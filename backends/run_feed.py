"""Running one feed of the user's data, so that data which does not fit the model ends in one clear line."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.backends.base import Array, Session
from qcompiler.data.validation import listed
from qcompiler.errors import CalibrationError


def run_feed(session: Session, feed: Mapping[str, Array], index: int) -> Mapping[str, Array]:
    """Run one feed; inputs that the session does not need are left out.

    Raises:
        CalibrationError: an input is missing, or the runtime refuses the arrays.
    """
    missing = [name for name in session.input_names if name not in feed]
    if missing:
        raise CalibrationError(
            f"feed {index} has arrays for {sorted(feed)}, but the model also needs {missing}; "
            "give one array per input, under its name."
        )
    try:
        return session.run({name: feed[name] for name in session.input_names})
    except Exception as error:  # the runtime's errors share no base class but this one
        shapes = listed(f"{name} {array.dtype}{list(array.shape)}" for name, array in feed.items())
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise CalibrationError(
            f"the model does not run on feed {index} ({shapes}): {reason.rstrip('. ')}. "
            "Give arrays of the dtypes and shapes that `qcompile inspect` lists."
        ) from error
