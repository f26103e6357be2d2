"""The same program on two loops, and what it saw on each.

`worlds` are the loops and task classes to compare, `programs` the random programs, `interpreter` runs a
program in a world and returns its trace.
"""

import pytest

pytest.register_assert_rewrite("differential.compare")
