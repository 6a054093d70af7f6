"""scripts/bench.py gpu runs to its end, here with five steps of each row on the CPU."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
from benchmarks import gpu


def test_every_kind_of_row_is_printed(capsys):
    gpu.main("cpu", small=True)
    lines = capsys.readouterr().out.splitlines()
    rows = ["linear", "MLP", "1 ", "10 ", "10 MLPs × 1", "resnet18_one_cycle_sgd", "speedrun, alone"]
    assert all(any(line.startswith(row) for line in lines) for row in rows)
    assert not any("failed" in line for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == "scripts/bench.py gpu: there is no NVIDIA GPU that torch can use\n"
