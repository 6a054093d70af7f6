"""The jobs of several sweeps stand under the same keys, and each configuration once."""

import pytest

from seedbed.report.gather import gather, optimized_metric

DONE = {"status": "completed", "val/accuracy": 0.9}


def test_jobs_of_one_sweep_are_as_they_were_read(sweep):
    jobs, repeated = gather([sweep], sweep)
    assert [job.folder for job in jobs] == [str(n) for n in range(24)] and repeated == 0


def test_folders_are_relative_to_where_the_report_goes(sweep, tmp_path):
    jobs, _ = gather([sweep], tmp_path / "elsewhere")
    assert jobs[3].folder == "../sweep/3"


def test_key_that_one_command_does_not_name_has_its_configs_value(tmp_path, leave):
    """lr 0.1 and data.seed = seed stand in the config, init=default among the choices."""
    leave(tmp_path / "a" / "0", ["seed=3"], DONE)
    leave(tmp_path / "b" / "0", ["seed=4", "data.seed=5", "init=normal", "optim.lr=1"], DONE)
    first, second = gather([tmp_path / "a", tmp_path / "b"], tmp_path)[0]
    assert first.values == {"seed": 3, "data.seed": 3, "init": "default", "optim.lr": 0.1}
    assert second.values == {"seed": 4, "data.seed": 5, "init": "normal", "optim.lr": 1}
    assert [job.number for job in (first, second)] == [0, 1]


def test_key_of_no_config_stays_missing(tmp_path, leave):
    leave(tmp_path / "a" / "0", ["seed=3"], DONE)
    leave(tmp_path / "b" / "0", ["seed=4", "+extra.key=5"], DONE)
    assert gather([tmp_path / "a", tmp_path / "b"], tmp_path)[0][0].values == {"seed": 3}


def test_configuration_counts_once_and_as_completed_if_it_ever_was(tmp_path, leave):
    for name, metrics in (("a", None), ("b", DONE), ("c", DONE)):
        leave(tmp_path / name / "0", ["optim.lr=0.1", "seed=0"], metrics)
    leave(tmp_path / "c" / "1", ["optim.lr=1", "seed=0"], DONE)
    jobs, repeated = gather([tmp_path / name for name in "abc"], tmp_path)
    assert [job.folder for job in jobs] == ["b/0", "c/1"] and repeated == 2


def test_sweeps_can_be_compared_with_each_other(tmp_path, leave):
    for name in ("monday/10-00", "tuesday/10-00"):
        leave(tmp_path / name / "0", ["optim.lr=0.1", "seed=0"], DONE)
    jobs, repeated = gather([tmp_path / "monday/10-00", tmp_path / "tuesday/10-00"], tmp_path, by_sweep=True)
    assert [job.values["sweep"] for job in jobs] == ["monday/10-00", "tuesday/10-00"] and repeated == 0


def test_optimised_metric_is_the_configs(tmp_path, leave):
    for n in range(2):
        leave(tmp_path / str(n), [f"seed={n}"], DONE)
    (tmp_path / "0" / ".hydra" / "config.yaml").unlink()
    (tmp_path / "1" / ".hydra" / "config.yaml").write_text("optimized_metric: val/loss\nseed: 1\n")
    assert optimized_metric(gather([tmp_path], tmp_path)[0], tmp_path) == "val/loss"


def test_folder_that_is_missing_or_has_no_jobs_is_named_with_what_to_try(tmp_path, leave):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        gather([tmp_path / "nowhere"], tmp_path)
    leave(tmp_path / "day" / "sweep" / "0", ["seed=0"], DONE)
    with pytest.raises(ValueError, match=r"no jobs in this folder; there are some in .*day/sweep$"):
        gather([tmp_path / "day"], tmp_path)
    with pytest.raises(ValueError, match="it is a single run"):
        gather([tmp_path / "day" / "sweep" / "0"], tmp_path)
