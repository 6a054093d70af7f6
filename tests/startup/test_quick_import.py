"""What is left out of the import is there as soon as it is asked for, and nobody can tell."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = "from seedbed.startup.quick_import import Late, import_torch; import_torch(); import sys, torch; "
NAMES = ("torch._dynamo", "torch.utils.flop_counter", "torchmetrics", "torchmetrics.utilities.plot")
LATE = f"all(isinstance(sys.modules[name], Late) for name in {NAMES})"
BROUGHT_ALONG = ("torchvision", "scipy", "matplotlib", "triton", "sympy")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, errors="replace")
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_a_run_needs_neither_compiler_nor_metrics(tmp_path):
    words = ["train.py", "model=linear", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}"]
    look = f"import atexit; atexit.register(lambda: print({LATE}, sys.modules.keys() & {BROUGHT_ALONG}))"
    train = f"import runpy; sys.argv = {words}; runpy.run_path('train.py', run_name='__main__')"
    assert run(f"{START}{look}; {train}").splitlines()[-1] == "True set()"


@pytest.mark.parametrize(
    "use",
    [
        "from torch._dynamo.utils import counters; assert counters is torch._dynamo.exc.counters",
        "from torch._dynamo.eval_frame import OptimizedModule; assert OptimizedModule is torch._dynamo.OptimizedModule",
        "import torchvision.ops; torchvision.ops.nms",
        "import torchmetrics; print(torchmetrics.Accuracy(task='binary')(torch.ones(2), torch.ones(2)))",
        "from torchmetrics import MeanMetric; m = MeanMetric(); m.update(1.0); m.plot()[0].savefig(sys.stdout.buffer)",
        "from lightning.fabric.utilities.throughput import measure_flops as f; "
        "n = torch.nn.Linear(2, 3); assert f(n, lambda: n(torch.ones(4, 2))) == 48",
        "from torchmetrics.functional import accuracy; import torchmetrics.utilities; torchmetrics.utilities.data",
    ],
)
def test_what_was_left_out_is_there_when_asked_for(use):
    run(f"{START}assert {LATE}; {use}")


def test_compiled_modules_are_told_from_others():
    """As Lightning does it; and optimisers, made before there was a compiler, step as before."""
    run(
        START
        + """
from lightning.fabric.wrappers import OptimizedModule
net = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(1, 2)).sum().backward()
optimizer.step()
assert not isinstance(net, OptimizedModule) and isinstance(sys.modules["torch._dynamo"], Late)
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
