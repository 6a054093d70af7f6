"""Quick imports and plain ones train alike, and what is left out of the import is there as soon as it is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
START = "from seedbed.startup.quick_import import import_torch; import_torch(); import sys, torch; "
UNUSED = ("torchvision", "matplotlib", "torch._dynamo.eval_frame", "torchmetrics.functional")


def run(code: str, **environment: str) -> str:
    command, env = [sys.executable, "-c", code], os.environ | {"SEEDBED_PLAIN": "0"} | environment
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, errors="replace")
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_plain_command_trains_the_same_with_all_that_lightning_imports(tmp_path):
    loaded = {}
    for plain in ("0", "1"):
        overrides = ["train.py", "optim=adam", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/{plain}"]
        look = f"import atexit, sys; atexit.register(lambda: print('loaded', *sys.modules.keys() & {set(UNUSED)}))"
        train = f"import runpy; sys.argv = {overrides}; runpy.run_path('train.py', run_name='__main__')"
        loaded[plain] = run(f"{look}; {train}", SEEDBED_PLAIN=plain).splitlines()[-1].split()
    assert loaded["0"] == ["loaded"] and set(loaded["1"]) == {"loaded", *UNUSED}
    quick, plain = (torch.load(tmp_path / p / "checkpoints/last.ckpt", weights_only=True) for p in "01")
    torch.testing.assert_close(quick["state_dict"], plain["state_dict"], rtol=0, atol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP elsewhere")
@pytest.mark.parametrize(("given", "count"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_that_wait_sleep_soon_unless_told_otherwise(given, count):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_WAIT"))} | given
    environment |= {"OMP_DISPLAY_ENV": "verbose", "SEEDBED_PLAIN": "0"}
    done = subprocess.run([sys.executable, "-c", START], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert f"GOMP_SPINCOUNT = '{count}'" in done.stderr


@pytest.mark.parametrize(
    "use",
    [
        "from torch._dynamo.utils import counters; assert counters is torch._dynamo.exc.counters",
        "from torch._dynamo.eval_frame import OptimizedModule; assert OptimizedModule is torch._dynamo.OptimizedModule",
        "import torchmetrics as t; assert t.Accuracy(task='binary')(torch.ones(2), torch.ones(2)) == 1; "
        "m = t.MeanMetric(); m.update(1.0); m.plot()[0].savefig(sys.stdout.buffer)",
    ],
    ids=["submodule", "class", "metric and plot"],
)
def test_what_was_left_out_is_there_when_asked_for(use):
    run(f"{START}{use}")


def test_compiled_modules_are_told_from_others():
    """As Lightning does it; and an optimiser that was made before the compiler was there steps as before."""
    run(
        START
        + """
from lightning.fabric.wrappers import OptimizedModule
net = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(1, 2)).sum().backward()
optimizer.step()
assert not isinstance(net, OptimizedModule) and "torch._dynamo.eval_frame" not in sys.modules
compiled = torch.compile(net, backend="eager")
assert isinstance(compiled, OptimizedModule) and not isinstance(net, OptimizedModule)
assert type(compiled) is torch._dynamo.OptimizedModule
before = net.weight.clone()
compiled(torch.ones(1, 2)).sum().backward()
optimizer.step()
optimizer.zero_grad()
assert torch.allclose(net.weight, before - 0.2) and net.weight.grad is None
torch._dynamo.reset()
"""
    )
