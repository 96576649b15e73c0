"""`harness selftest`: settings come in, faults are planted and false alarms counted, an exit code goes out."""

from __future__ import annotations

from pathlib import Path

from harness.commands.console import NOTHING_RAN, Quiet, escape, say


def selftest(
    *,
    networks: int = 100,
    mutated: int = 20,
    seed: int = 0,
    dtypes: str = "all",
    backends: str = "numpy,torch,jax",
    against: str = "none",
    layers: str = "all",
    out: Path = Path("reports/latest"),
    jobs: int = -1,
    part: str = "1/1",
    timeout: float = 600.0,
    quiet: Quiet = False,
) -> int:
    """Would this test have found a fault? Plant faults and count what is found, and judge right networks and count false alarms.

    Exit code 0 only with no false alarm and every threshold met.

    Parameters
    ----------
    networks
        How many right networks, each in every dtype; JAX runs every tenth.
    mutated
        In how many networks a dtype every fault that fits is planted.
    seed
        The seed of the networks and of where faults are planted.
    dtypes
        float64, float32, bfloat16, float16, or all.
    backends
        Backends or frameworks that judge the right networks.
    against
        Tools to give the same faults to: gradcheck, check_grads, autograd, allclose, assert_close, all or none.
    layers
        Layers of the networks: name your own to ask whether a fault in it would be found.
    out
        The folder that gets `selftest.csv` and its likes, a run folder or a new one.
    jobs
        Worker processes of one core each; -1 is one for each core, 0 runs in this process.
    part
        Which part of how many to run, such as 3/10; parts in one folder are added up.
    timeout
        Seconds after which a network counts as hanging.
    quiet
        Print the verdict alone.
    """
    from harness.selftest import plan as selftests

    settings = selftests.Settings(networks, mutated, seed, dtypes, backends, against, layers, out, jobs, part, timeout)
    plan = selftests.make_plan(settings)
    if lost := selftests.find_lost(plan):
        say(f"[red]{escape(lost)}[/]", error=True)
        return NOTHING_RAN
    for name, message in plan.missing.items():
        say(f"[yellow]{name} is not installed and was not run:[/] {escape(message)}", error=True)
    from harness.selftest.screen import run_on_screen

    return run_on_screen(plan, quiet)
