"""Random networks with a normalisation layer come in; an epsilon on the wrong side of its root is found there, and named."""

from __future__ import annotations

from itertools import islice

import pytest

from harness.cases import plan_cases
from harness.core import Case
from harness.judge.memory import remember
from harness.mutations.mutation import find_mutation
from harness.selftest.tables import CHECKS, MOST_EXCLUDED, SHARE, frame_trials, score_named
from harness.selftest.trials import Task, prepare_subject, try_fault
from tests.mutations.one_pass import LAYERS

NETWORKS = 16


def _with_norm(dtype: str) -> list[Case]:
    """Return cases over the first random networks that hold the layer."""
    drawn = (case for (case,) in plan_cases(20 * NETWORKS, 3, LAYERS, dtypes=(dtype,), hazards=(), draws=1))
    return list(islice((case for case in drawn if any(node.layer == "rms_norm" for node in case.network.nodes)), NETWORKS))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_epsilon_inside_the_root_is_found_and_named(dtype):
    trials = []
    for index, case in enumerate(_with_norm(dtype)):
        with remember():
            subject = prepare_subject(case, LAYERS)
            assert not subject.right.is_found_by("verdict")
            trials.append(try_fault(subject, find_mutation("epsilon inside the root"), Task(index, case), ["verdict"]))
    (row,) = score_named(frame_trials(trials, CHECKS)).to_dict("records")
    assert row["networks"] == NETWORKS
    assert row["excluded_share"] <= MOST_EXCLUDED
    assert min(row["found_share"], row["named_share"]) >= SHARE
