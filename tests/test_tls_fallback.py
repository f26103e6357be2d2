"""All that holds of TLS holds where OpenSSL is not called natively."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(os.environ.get("VELODROME_TLS") == "fallback", reason="that is what runs just now")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    ["floods", "matrix", "hostile", "load", "native", "peers", "programs", "start", "transport", "wire"],
)
def test_the_same_holds_for_the_fallback(name, request):
    options = ["-q", "-p", "no:cacheprovider", "-m", request.config.getoption("markexpr")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, HERE / f"test_tls_{name}.py"],
        env={**os.environ, "VELODROME_TLS": "fallback"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    # 5: what is chosen are none of these.
    assert done.returncode in (0, 5), done.stdout + done.stderr
