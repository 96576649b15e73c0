"""Tasks come in; their results go out, and what became of those whose worker was lost."""

from __future__ import annotations

import os
import time

import pytest

from harness.selftest.pool import run_tasks


def work(task: int) -> int:
    """Return the square; die for 3, hang for 4, raise for 5."""
    if task == 3:
        os._exit(7)
    if task == 4:
        time.sleep(60)
    if task == 5:
        raise ValueError("five")
    return task * task


def test_tasks_run_here_in_their_order():
    assert list(run_tasks(work, range(3), 0, 1.0)) == [(0, 0, ""), (1, 1, ""), (2, 4, "")]


def test_a_worker_that_dies_or_hangs_loses_its_task_alone():
    done = {task: (result, lost) for task, result, lost in run_tasks(work, [1, 3, 4, 2], 1, 3.0)}
    assert done[1] == (1, "")
    assert done[2] == (4, "")
    assert done[3][0] is None
    assert "died with exit code 7" in done[3][1]
    assert done[4] == (None, "no answer within 3 s")


def test_more_tasks_than_workers_are_all_done():
    assert {task: result for task, result, _ in run_tasks(work, [*range(3), *range(6, 12)], 2, 30.0)} == {
        task: task * task for task in [*range(3), *range(6, 12)]
    }


def test_what_the_work_raises_is_raised_again():
    with pytest.raises(ValueError, match="five"):
        list(run_tasks(work, [5], 1, 3.0))
