"""A sweep's jobs, composed in bulk, equal those that Hydra composes one by one: config, folder, choices and files."""

import pickle
from ast import literal_eval
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from seedbed.sweeps.compose import BulkComposer, hydra_config, write_hydra_folder

ROOT = Path(__file__).resolve().parents[2]
FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")


class Sweep:
    """Hydra's loader and ours for the same sweep."""

    def __init__(self, conf: Path, *overrides: str):
        if version.__version__.startswith("1.3"):
            version.setbase("1.3")
        self.real = ConfigLoaderImpl(create_config_search_path(str(conf)))
        self.master = Hydra("train", self.real).compose_config("config", list(overrides), RunMode.MULTIRUN)
        self.bulk = BulkComposer(self.real)

    def by_hydra(self, overrides: list[str], num: int) -> list[str]:
        """[config, folder, choices, the three files], as text that tells 1 from 1.0 and nan from nothing."""
        cfg = self.real.load_sweep_config(self.master, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = str(num), num
        return self.run(cfg)

    def run(self, cfg: DictConfig) -> list[str]:
        seen = {}

        def task(cfg) -> None:
            seen["config"] = OmegaConf.to_container(cfg, resolve=True)
            seen["runtime"] = OmegaConf.to_container(HydraConfig.get().runtime)

        context = HydraContext(config_loader=self.real, callbacks=Callbacks())
        run_job(task, cfg, "hydra.sweep.dir", "hydra.sweep.subdir", context, configure_logging=False).return_value  # noqa: B018
        folder = Path(seen["runtime"]["output_dir"])
        return [repr(seen["config"]), str(folder), repr(seen["runtime"]["choices"]), *written(folder)]

    def in_bulk(self, overrides: list[str], num: int) -> list[str]:
        job = self.bulk.job(self.master, overrides, num)
        write_hydra_folder(job)
        assert (job.num, job.overrides) == (num, list(overrides))
        return [repr(job.config), str(job.folder), repr(job.choices), *written(job.folder)]


def written(folder: Path) -> list[str]:
    """The files' contents; they are removed, for the other way to write them."""
    texts = [repr(yaml.safe_load((folder / ".hydra" / name).read_text(encoding="utf-8"))) for name in FILES]
    for name in FILES:
        (folder / ".hydra" / name).unlink()
    return texts


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Sweep:
    return Sweep(ROOT / "conf", f"hydra.sweep.dir='{tmp_path_factory.mktemp('sweep')}'")


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "optim.lr=1e-3 seed=3",
        "optim.lr=nan seed=-1",
        "optim.lr=fast",
        "seed=1 data.seed=5 seed=2",
        "optim.lr=inf experiment=linear",
        "experiment=linear_scratch init=kaiming_normal",
        "data.batch_size=null data.shuffle=TRUE",
        "model.hidden=[10,20] model.activation='a b: \"c\"'",
        "model.hidden=[]",
        "model.hidden=7",
        "model.hidden=[1,2,3] model.hidden.1=5",
        "model.hidden=[9] model.hidden.0=8",
        "model.hidden.0=5",
        "data.seed=[1,[a,null]]",
        "data.seed=${optim.lr}",
        "data.seed=${optim.lr} optim.lr=3 hydra.sweep.subdir=${hydra.job.override_dirname}",
        "data=image_folder",
        "data=image_folder data.root=???",
        "trainer=null",
        "trainer={max_epochs:3} trainer.max_epochs=4",
        "trainer.max_epochs=4 trainer={max_epochs:3}",
        "schedule=combined schedule.phases=[{a:1e-5}]",
        "+trainer.limit_train_batches=2 ++seed=4 ~optim.weight_decay",
        "hydra.sweep.subdir=${hydra.job.override_dirname}-${seed} hydra.job.name=x seed=6 +a=b",
        "hydra.job.config.override_dirname.exclude_keys=[seed] hydra.sweep.subdir=${hydra.job.override_dirname} seed=6",
        "ckpt_path='é\u2028\x7f\U0001f600'",
        "hydra/job_logging=none hydra.output_subdir=.hydra",
    ],
)
def test_job_is_hydras(ours, overrides):
    words = overrides.split(" ") if "'" not in overrides else overrides.split(" ", 1)
    words = [word for word in words if word]
    assert ours.in_bulk(words, 12) == ours.by_hydra(words, 12)


@pytest.mark.parametrize(
    ("command", "jobs"),
    [
        (
            "model=linear optim.lr=1,2 seed=range(0,2)",
            ["model=linear optim.lr=2 seed=1", "model=linear optim.lr=1 seed=0"],
        ),
        ("seed=1,2 +new=3 ~optim.weight_decay data.seed=7", ["seed=2 +new=3 ~optim.weight_decay data.seed=7"]),
        ("experiment=lesson9 optim=adam seed=1,2", ["experiment=lesson9 optim=adam seed=1"]),
        # in these the jobs differ from the command in more than values
        ("model=linear seed=1 optim.lr=2,3", ["model=linear optim.lr=2", "model=mlp seed=1 optim.lr=2"]),
        ("trainer={max_epochs:3} trainer.max_epochs=4,5", ["trainer={max_epochs:3} trainer.max_epochs=4"]),
        ("model.hidden=[1],[2] optim=sgd", ["model.hidden=[2] optim=sgd model.hidden.0=5"]),
        ("seed=1,2", ["seed=1 hydra.job.name=y"]),
    ],
)
def test_job_is_hydras_beside_the_words_of_the_command(tmp_path, command, jobs):
    sweep = Sweep(ROOT / "conf", f"hydra.sweep.dir='{tmp_path}'", *command.split())
    for num, words in enumerate(jobs):
        assert sweep.in_bulk(words.split(), num) == sweep.by_hydra(words.split(), num)


TEXTS = "2 12345678901234567890 0.5 00 1_0 1. 1.5.2 007.5 ٣ null 0.1a 1,"


def test_later_values_of_a_key_are_read_as_hydra_reads_them(ours):
    bulk = BulkComposer(ours.real)
    bulk.job(ours.master, ["seed=1"], 0)
    for text in TEXTS.split():
        try:
            expected = ours.real.load_sweep_config(ours.master, [f"seed={text}"]).seed
        except Exception as error:
            with pytest.raises(type(error)):
                bulk.job(ours.master, [f"seed={text}"], 0)
        else:
            assert repr(bulk.job(ours.master, [f"seed={text}"], 0).config["seed"]) == repr(expected)


numbers = st.integers(-(10**20), 10**20) | st.floats()
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def written_out(value) -> str:
    """As Hydra's grammar has it; strings are quoted."""
    if isinstance(value, list):
        return f"[{','.join(map(written_out, value))}]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return {None: "null"}.get(value, str(value))


scalars = numbers | st.booleans() | st.none() | words
ODD = """1e5 1_000 +3 .5 5. -.5e-3 on yes 2020-01-01 0x1F 1:30 a/b.c-d NULL tRue ~ 'null' '1' "x" ${seed} [1,[2]]"""
values = (scalars | st.lists(scalars, max_size=3)).map(written_out) | st.sampled_from(ODD.split())
keys = st.sampled_from(["seed", "optim.lr", "data.seed", "data.normalize", "model.hidden", "trainer.max_epochs"])
groups = st.sampled_from(["optim=adam", "experiment=lesson9", "init=normal"])
overrides = st.lists(st.builds("{}={}".format, keys, values) | groups, max_size=4)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(overrides)
@example(["seed='\n\t\\\\'", "optim.lr=-0.0"])
def test_any_values_job_is_hydras(ours, overrides):
    try:
        expected = ours.by_hydra(overrides, 3)
    except Exception as error:
        with pytest.raises(type(error)):
            ours.in_bulk(overrides, 3)
    else:
        assert ours.in_bulk(overrides, 3) == expected


MISTAKES = "optim.lrr=1 optimm.lr=1 model=mpl nogroup=1 optim.lr=[1 =1 optim.lr=1,2 seed.x=1 trainer=[1] optim=3 a/b=1"
MISTAKES += " model.hidden.x=1 +seed=1 ~nothing model@x=mlp hydra.nothing=1 model.hidden={a:1} data.root.x=${seed"


@pytest.mark.parametrize("mistake", MISTAKES.split())
def test_mistake_is_told_in_hydras_words(ours, mistake):
    words = ["seed=1", mistake]
    with pytest.raises(Exception) as expected:
        ours.real.load_sweep_config(ours.master, words)
    with pytest.raises(type(expected.value)) as error:
        ours.bulk.job(ours.master, words, 0)
    assert str(error.value) == str(expected.value)


CONFIG = r"""
defaults: [part: a, _self_]
seed: 1
same: ${seed}
text: '<${part.x}|${same}|${.seed}>'
escaped: '\${seed}'
sizes: [1, "${seed}", "${part.x}"]
copy: ${part}
first: ${oc.env:HOME}
at: ${now:%H:%M:%S:%f}
hydra:
  sweep:
    dir: %FOLDER%/${now:%Y-%m-%d-%H-%M-%S-%f}
    subdir: ${hydra.job.num}_${hydra.job.id}_${hydra.job.override_dirname}_${text}
  job: {config: {override_dirname: {kv_sep: "-", item_sep: "+", exclude_keys: [seed]}}}
"""
LOOKS_UP = {
    "job number": "odd: '${hydra:job.num} ${hydra:runtime.output_dir}'",
    "nested": "odd: '${part.${name}}'\nname: x",
    "a resolver's argument": "odd: '${oc.decode:\"${seed}\"}'",
    "element": "odd: ${part.y.0}",
}


@pytest.fixture
def sweep_of(tmp_path):
    def make(more: str = "", config: str = CONFIG) -> Sweep:
        (tmp_path / "part").mkdir()
        (tmp_path / "config.yaml").write_text(config.replace("%FOLDER%", str(tmp_path)) + more)
        for name, text in {"a": "{x: 3, y: [4], z: '${.x}'}", "b": "{x: 5, y: [6, 7]}"}.items():
            (tmp_path / "part" / f"{name}.yaml").write_text(text)
        sweep = Sweep(tmp_path)
        _ = sweep.master.get("at"), sweep.master.hydra.sweep.dir  # as sweepers and callbacks do: ${now} is cached
        return sweep

    return make


@pytest.mark.parametrize("more", ["", *LOOKS_UP.values()], ids=["plain", *LOOKS_UP])
def test_interpolations_are_looked_up_job_by_job(sweep_of, more):
    sweep = sweep_of(more)
    folder = "hydra.sweep.subdir=${oc.select:seed}-${hydra.job.num}"
    jobs = [
        "seed=null",
        "seed=true",
        "seed=1e-7 part.x=[1,a,null]",
        "part.x=q part=b",
        f"{folder} seed=4",
        f"{folder} seed=5",
    ]
    for num, words in enumerate(jobs):
        assert sweep.in_bulk(words.split(), num) == sweep.by_hydra(words.split(), num)


def test_value_that_cannot_be_looked_up_is_omegaconfs_error(sweep_of):
    sweep = sweep_of("odd: ${nothing.here}")
    sweep.real.load_sweep_config(sweep.master, ["seed=3"])  # Hydra composes it
    with pytest.raises(OmegaConfBaseException):
        sweep.bulk.job(sweep.master, ["seed=3"], 0)


def test_schema_converts_and_refuses(sweep_of):
    @dataclass
    class Typed:
        seed: int = 0
        ratio: float = 0.5
        text: str = "${seed}"

    ConfigStore.instance().store("schema_of_test", Typed)
    try:
        sweep = sweep_of(config="defaults: [schema_of_test, _self_]\nhydra: {sweep: {dir: '%FOLDER%'}}\n")
        for words in (["seed='7'", "ratio=2"], ["seed=8"]):
            assert sweep.in_bulk(words, 4) == sweep.by_hydra(words, 4)
        with pytest.raises(Exception) as expected:
            sweep.real.load_sweep_config(sweep.master, ["seed=x"])
        with pytest.raises(type(expected.value)):
            sweep.bulk.job(sweep.master, ["seed=x"], 0)
    finally:
        del ConfigStore.instance().repo["schema_of_test.yaml"]


def test_one_config_is_composed_for_all_jobs_of_a_structure(ours, monkeypatch):
    composed = []
    real = ours.real.load_sweep_config
    monkeypatch.setattr(ours.real, "load_sweep_config", lambda *args: composed.append(args) or real(*args))
    bulk = BulkComposer(ours.real)
    for words in (
        [f"optim.lr={lr}", f"seed={seed}", f"optim={optim}"]
        for lr in (1, 2)
        for seed in (3, 4)
        for optim in ("sgd", "adam")
    ):
        job = bulk.job(ours.master, words, 0)
    assert len(composed) == 2
    assert (job.config["optim"]["lr"], job.config["seed"], job.choices["optim"]) == (2, 4, "adam")


@pytest.mark.parametrize(
    "words", [["optim.lr=0.5", "seed=3"], ["model.hidden=[5]", "+a=b", "optim=adam"]], ids=" ".join
)
def test_hydra_runs_a_job_that_comes_as_plain_data(ours, words):
    for num in (0, 12):
        job = ours.bulk.job(ours.master, words, num)
        config, node = pickle.loads(pickle.dumps((job.config, job.hydra_node())))
        in_bulk, by_hydra = ours.run(hydra_config(config, node)), ours.by_hydra(words, num)
        # config.yaml holds resolved values, hydra.yaml the same keys in another order
        assert in_bulk[:3] + in_bulk[5:] == by_hydra[:3] + by_hydra[5:]
        assert literal_eval(in_bulk[4]) == literal_eval(by_hydra[4])


def test_jobs_share_nothing_that_can_be_changed(ours):
    first, second = (ours.bulk.job(ours.master, ["model.hidden=[5]", f"seed={i}"], i) for i in range(2))
    first.config["model"]["hidden"].append(6)
    first.config["trainer"]["devices"] = 8
    first.choices["model"] = "other"
    third = ours.bulk.job(ours.master, ["model.hidden=[5]", "seed=2"], 2)
    for job in (second, third):
        assert job.config["model"]["hidden"] == [5] and job.config["trainer"]["devices"] == 1
        assert job.choices["model"] == "mlp"
