"""`python -m tests.helpers.cuda_driver ARGUMENTS`: Python with these arguments, on the imitated driver."""

import os
import sys

from tests.helpers.cuda_driver import environment

os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment())
