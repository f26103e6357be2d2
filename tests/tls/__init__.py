"""TLS connections between sides of every kind: on a loop, without one, natively and in other programs."""

import pytest

pytest.register_assert_rewrite("tls.pairs")
