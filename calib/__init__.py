"""From calibration frames to an INT8 graph."""

from runtime.commands import explain_missing_extras

explain_missing_extras()
