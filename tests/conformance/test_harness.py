"""The runner itself: its tables fit the baselines, and its verdict fails when it should."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import results  # noqa: E402

BASELINES = sorted(HERE.glob("baselines/*.json"))


@pytest.fixture(scope="module")
def known_ids():
    return {tid for path in BASELINES for tid in results.load(path)["tests"]}


def test_every_supported_python_has_a_baseline():
    assert [path.stem for path in BASELINES] == ["3.11", "3.12", "3.13", "3.14", "3.15"]


def test_every_whitebox_entry_names_a_test_and_its_reason(known_ids):
    for pattern, entry in results.load_whitebox():
        assert any(pattern.search(tid) for tid in known_ids), entry["match"]
        assert entry["kind"] and entry["reason"] and entry["trace"]


def test_a_baseline_survives_writing_and_reading(tmp_path):
    full = results.load(BASELINES[0])
    results.dump_baseline(results.trim(full), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == BASELINES[0].read_text()


def verdict(tests, notes=()):
    baseline = results.load(BASELINES[0])
    passing = {t: r for t, r in baseline["tests"].items() if r["module"] == "test_locks"}
    data = {
        "meta": {"python": baseline["meta"]["python"]},
        "modules": {"test_locks": {"notes": list(notes)}},
        "tests": tests(passing),
    }
    return results.judge(data, baseline, [])


def test_the_verdict_passes_what_passed():
    found = verdict(lambda passing: passing)
    assert found.passed and not found.failed


@pytest.mark.parametrize("status", ["fail", "error", "hang", "crash", "skip"])
def test_the_verdict_fails_what_did_not_pass(status):
    def tests(passing):
        tid = next(t for t, r in passing.items() if r["loops"])
        return {**passing, tid: {**passing[tid], "status": status, "detail": "why"}}

    assert [(s, detail) for _, s, detail in verdict(tests).failed] == [(status, "why")]


def test_the_verdict_fails_what_did_not_run():
    found = verdict(lambda passing: {})
    assert not found.passed and {status for _, status, _ in found.failed} == {"missing"}


def test_the_verdict_fails_a_worker_that_died():
    found = verdict(lambda passing: passing, notes=["worker exit: -11: Fatal error"])
    assert found.failed == [("test_locks", "worker", "worker exit: -11: Fatal error")]
