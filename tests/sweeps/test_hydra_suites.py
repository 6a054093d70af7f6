"""Hydra's own test suites for launchers, run on our `basic`: any Hydra app can use it."""

import sys

import pytest
from hydra import version
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite

from seedbed.sweeps.choices import register_choices

# A program that stores our choices first and then runs the suite's script; else Hydra's own launcher were tested.
WITH_OURS = """
import runpy, sys
from seedbed.sweeps.choices import register_choices
register_choices()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(autouse=True)
def ours(hydra_restore_singletons):
    version.setbase("1.1")  # that of the suites, whatever tests before this one have set
    register_choices()


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", [])])
class TestBasic(LauncherTestSuite):
    pass


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", ["hydra.sweeper.max_batch_size=2"])])
class TestBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=basic"])])
class TestIntegration(IntegrationTestSuite):
    def generate_custom_cmd(self):
        return lambda cmd, filename: [sys.executable, "-c", WITH_OURS, *cmd[1:]]
