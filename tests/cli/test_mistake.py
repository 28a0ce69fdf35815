"""Every wrong input: exit 2, one line on stderr that names the mistake, nothing created."""

import os

import pytest

from cl_fisher.config import conf_dir

MISTAKES = [
    ("stratgy=ewc", "did you mean 'strategy'"),
    ("strategy=ewcc", "did you mean 'ewc'? there are agem, "),
    ("strategy=", "there are agem, compose"),
    ("strategy=null", "there are agem, compose"),
    ("~strategy", "a run needs strategy; write strategy=..."),
    ("~fisher/estimator", "write fisher/estimator=... to change it"),
    ("~seed", "a run needs seed"),
    ("+strategy=ewc", "write strategy=ewc, without +"),
    ("+experiment=split_mnist", "write experiment=split_mnist, without +"),
    ("dataset=[mnist]", "a run has one dataset; write dataset=mnist"),
    ("dataset=[mnist,digits]", "for a run of each: -m dataset=mnist,digits"),
    ("-m dataset=[mnist],[digits]", "write dataset=mnist"),
    ("strategy={a:1}", "EWC has no option 'a'"),
    ("model.hidden={a:1}", "model.hidden has no options"),
    ("seed={a:1}", "a whole number is wanted"),
    ("output_dir={a:1}", "text is wanted"),
    ("fisher/estimater=exact", "did you mean 'fisher/estimator'"),
    ("fisher=exact", "there are fisher/estimator, fisher/likelihood, fisher/structure"),
    ("fisher.estimator=exact", "write fisher/estimator=exact, with a slash"),
    ("model/hidden=[3]", "write model.hidden=..., with a dot"),
    ("epoch=3", "did you mean 'epochs'"),
    ("+epoch=3", "did you mean 'epochs'"),
    ("+epoch=3 --cfg-nothing", "unrecognized arguments"),
    ("loader.worker=3", "did you mean 'loader.workers'"),
    ("+loader.worker=3", "did you mean 'loader.workers'"),
    ("strategy.strenght=3", "did you mean 'strategy.strength'? it takes strength, estimator"),
    ("+strategy.strenght=3", "did you mean 'strategy.strength'? it takes strength, estimator"),
    ("strategy.gamma=0.5", "EWC has no option 'gamma'"),
    ("strategy.foo.bar=1", "strategy.foo: EWC has no option 'foo'"),
    ("seed=abc", "seed=abc: a whole number"),
    ("seed=-1", "seed=-1 is out of range"),
    ("seed=9223372036854775808", "out of range"),
    ("n_tasks=0", "at least 1"),
    ("n_tasks=", "a whole number is wanted"),
    ("n_tasks=null", "n_tasks=null: a whole number is wanted"),
    ("n_tasks=2.5", "a whole number is wanted"),
    ("batch_size=0", "at least 1"),
    ("epochs=-1", "at least 1"),
    ("iterations=0", "at least 1"),
    ("epochs=null", "epochs and iterations are both null"),
    ("validation_fraction=1.5", "less than 1"),
    ("strategy.strength=-1", "strategy.strength=-1 is out of range"),
    ("strategy.strength=abc", "strategy.strength=abc: a number"),
    ("strategy.strength=inf", "strategy.strength=inf: a finite number is wanted"),
    ("strategy.strength=nan", "strategy.strength=nan: a finite number is wanted"),
    ("strategy.samples=3", "strategy.samples follows fisher.samples; write fisher.samples=..."),
    ("+strategy.samples=3", "write fisher.samples=..."),
    ("++strategy.samples=3", "write fisher.samples=..."),
    ("strategy={samples:3}", "write fisher.samples=..."),
    ("~strategy.samples", "write fisher.samples=..."),
    ("strategy.seed=3", "write seed=..."),
    ("strategy.estimator=empirical", "write fisher/estimator=..."),
    ("fisher/estimator=signs strategy.estimator.samples=3", "write fisher.estimator.samples=..."),
    ("dataset=mnist dataset.data_dir=x", "write data_dir=..."),
    ("-m strategy=ewc,online_ewc strategy.samples=3", "write fisher.samples=..."),
    ("fisher.sampling=foo", "fisher.sampling=foo is not one of uniform"),
    ("fisher.estimator.samples=3", "Exact has no option 'samples'"),
    ("fisher/estimator=signs fisher.estimator.samples=0", "fisher.estimator.samples=0 is out of range"),
    ("fisher.likelihood.temperature=0", "fisher.likelihood.temperature=0 is out of range"),
    ("fisher.likelihood.reversed=maybe", "true or false"),
    ("strategy.likelihood=gaussian", "write fisher/likelihood=..."),
    ("fisher/estimator=batched_empirical fisher.estimator.convention=max", "is not one of mean, sum"),
    ("strategy=online_ewc strategy.gamma=2", "strategy.gamma=2 is out of range"),
    ("model.hidden=400", "a list is wanted"),
    ("optimizer_state=rest", "did you mean 'reset'"),
    ("checkpoint=lst", "not one of last, all, none"),
    ("verbosity=3", "not one of 0, 1, 2"),
    ("loader.in_memory=yes", "not one of auto, true, false"),
    ("loader=3", "it has options of its own"),
    ("scenario=class strategy=icarl consolidate_every=9", "consolidate_every=9 is not possible with ICaRL: herding"),
    ("scenario=class scenario.head=ful", "did you mean 'full'"),
    ("experiment=null", "experiment=null: Hydra takes no null for a group; ~experiment leaves it out"),
    ("hydra.job.chdir=true", "hydra.job.chdir=true is not possible"),
    ("scenario=task scenario.blur=0.4 strategy=independent", "blur=0.4 is not possible with Independent: a task's"),
    ("scenario=task scenario.blur=0.4 strategy=packnet", "scenario.blur=0.4 is not possible with PackNet"),
    ("benchmark=split benchmark.sizes=4", "benchmark.sizes=4: a list is wanted"),
    ("scenario.name=class", "write scenario=class"),
    ("scenario={name:class}", "write scenario=NAME"),
    ("scenario.head=full", "scenario.head belongs to scenario=class"),
    ("+scenario.head=full", "scenario.head belongs to scenario=class"),
    ("-m scenario=class,task scenario.head=full", "(cell 1: scenario=task scenario.head=full)"),
    ("benchmark=split scenario=class n_tasks=10", "n_tasks can be at most 9"),
    ("benchmark=split benchmark.class_order=[0,1,2.5,3]", "class_order=[0, 1, 2.5, 3]: a list of whole numbers"),
    ("optimizer.lrr=1", "did you mean 'optimizer.lr'"),
    ("optimizer.amsgrad=true", "if Adam has such an option, write +optimizer.amsgrad=..."),
    ("optimizer.lr=null", "optimizer.lr=null: a number"),
    ("optimizer.lr=abc", "optimizer.lr=abc: a number"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1 is out of range"),
    ("optimizer.betas=0.9", "optimizer.betas=0.9: a list of 2 values"),
    ("optimizer.betas=[0.9,1]", "less than 1"),
    ("optimizer=sgd optimizer.momentum=-1", "optimizer.momentum=-1 is out of range"),
    ("trainer.accumulate_grad_batches=2.5", "accumulate_grad_batches=2.5: a whole number"),
    ("trainer.accumulate_grad_batches=0", "at least 1"),
    ("trainer.gradient_clip_val=-1", "gradient_clip_val=-1 is out of range"),
    ("trainer.precision=17", "trainer.precision=17 is not one of"),
    ("trainer.devices=0", "at least 1"),
    ("trainer.deterministic=true", "write +trainer.deterministic=..."),
    ("+x=${oc.env:SURELY_NOT_SET}", "SURELY_NOT_SET"),
    ("n_tasks 5", "cannot read 'n_tasks'"),
    ("=3", "has no key"),
    ("epochs=[1", "cannot read 'epochs=[1'"),
    ("seed=0,1", "add -m to run each of them"),
    ("-m output_dir=a,b", "one folder for the whole multirun"),
    ("-m strategy=ewc,ewcc", "did you mean 'ewc'"),
    ("-m seed=range(0,3) epochs=1,0", "(cell 1: seed=0 epochs=0)"),
    ("-m strategy=online_ewc,ewc strategy.gamma=0.5", "EWC has no option 'gamma'"),
    ("-m seed=interval(0,1)", "basic sweeper"),
    ("-m strategy=glob(x*)", "names no value"),
    ("--cfg job -m", "exclude each other"),
    ("--cfg jbo", "invalid choice"),
    ("--cfg job --package nope", "no such part"),
    ("--resolve", "goes with --cfg"),
    ("--experimental-rerun x", "not supported"),
    ("-cn nope", "Cannot find primary config 'nope'"),
    ("--config-dir nope", "does not exist"),
    ("-q -v", "not allowed with"),
    ("hydra/sweeper=nope", "hydra/sweeper/nope"),
    ("hydra.foo=3", "hydra.foo"),
    ("hydra.run.dir=null", "output_dir=..."),
    ("-m hydra.sweep.subdir= seed=0,1", "output_dir=..."),
    ("--config-dir old_config", "config.yaml is the record of a run"),
    ("--config-path old_config -cn config", "with the command in its metrics.json"),
    ("--config-path nameless", "write strategy=NAME"),
    ("strategy=ncl strategy.prior=ewc", "strategy.prior=ewc: a component is wanted; strategy@strategy.prior=NAME"),
    (
        "strategy=compose ~strategy@strategy.parts.penalty",
        "no _target_: a component is wanted; strategy@strategy.parts.pen",
    ),
    ("strategy=compose ~strategy@strategy.parts.penalty", "NAME chooses one; ~strategy.parts.penalty leaves it out"),
    ("strategy=compose strategy.parts=null", "named parts are wanted, such as strategy.parts.NAME"),
    ("strategy.parts.replay.capacity=3", "strategy.parts: EWC has no option 'parts'"),
    ("benchmark=sequence benchmark.datasets=null", "benchmark.datasets=null: named parts are wanted"),
    ("benchmark=sequence benchmark.datasets.task1=null", "chooses one; ~benchmark.datasets.task1 leaves it out"),
    ("benchmark=sequence benchmark.datasets.task1=digits", "dataset@benchmark.datasets.task1=NAME chooses one"),
    ("model=lora model.base=mlp", "model@model.base=NAME chooses one"),
    ("seed='3'", "seed='3' is text: a whole number is wanted"),
    ("strategy.strength=${oc.env:NOPE,3}", "strategy.strength='3' is text: a number is wanted"),
    ("eval_samples=5", "eval_samples=5 needs eval_every=..."),
    (
        "experiment=blurred scenario=domain",
        "leave no choice (experiment=blurred sets scenario.head; ~scenario.head takes it out)",
    ),
    ("experiment=permuted_mnist benchmark=split", "(experiment=permuted_mnist sets n_tasks; n_tasks=... changes it)"),
    ("--cfg job seed=1,2", "'seed=1,2' gives several values: add -m"),
    ("--cfg job fisher.estimator=exact", "write fisher/estimator=exact, with a slash"),
    ("++optimzer.lr=0.1", "there is no key 'optimzer'; did you mean 'optimizer'?"),
    ("+strategy@strat.parts.third=agem", "there is no key 'strat'"),
    ("+dataset@foo=digits", "there is no key 'foo', and nothing refers to one"),
    ("~scenario.name", "write scenario=NAME"),
    ("-m +hydra.sweeper.params={seed:'0,1'}", "a sweep is written as -m key=value,value"),
    ("-m +hydra.sweeper.params.seed='0,1'", "a sweep is written as -m key=value,value"),
    ("-m seed=0,1,0", "cells 0 and 2 are the same run (seed=0): give each value once"),
    ("-m optimizer.lr=1e-3,0.001 seed=0,1", "cells 0 and 2 are the same run"),
    ("-m verbosity=0,1", "cells 0 and 1 are the same run (all defaults)"),
    ("-m hydra.sweep.subdir=x seed=0,1", "hydra.sweep.subdir=x is the folder of cells 0 and 1: each needs its own"),
    ("output_dir=", "output_dir= is empty"),
    ("data_dir=", "data_dir= is empty"),
    ("output_dir=ünïcode_日本", "output_dir=\"'ünïcode_日本'\""),
    ("output_dir=a(b", "output_dir=\"'a(b'\""),
    ("output_dir=" + "a" * 300, "is not writable"),
    ("data_dir=" + "a" * 300, "cannot be read"),
    ("data_dir=afile", "is not a folder"),
    ("output_dir=afile", "is not a folder"),
    ("output_dir=afile/deeper", "is not a folder"),
    ("output_dir=old", "already holds a run (metrics.json)"),
    ("-m output_dir=old_sweep seed=0,1", "already holds a run (multirun.json)"),
]

OURS = (conf_dir() / "config.yaml").read_text()
NAMELESS = OURS.replace("  - strategy: ewc\n", "").replace(
    "\nhydra:", f"\nhydra:\n  searchpath: ['file://{conf_dir()}']"
)
"""A config.yaml of one's own that writes its strategy out instead of choosing it."""


@pytest.mark.parametrize(("typed", "hint"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_2(cli, jobs, tmp_path, typed, hint):
    (tmp_path / "afile").write_text("")
    for folder, name in (("old", "metrics.json"), ("old_sweep", "multirun.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("{}")
    for folder in ("old_config", "nameless"):
        (tmp_path / folder).mkdir()
    (tmp_path / "old_config" / "config.yaml").write_text("seed: 0\nstrategy: {_target_: x}\n")
    (tmp_path / "nameless" / "config.yaml").write_text(
        NAMELESS + "strategy: {_target_: cl_fisher.strategy.joint.Joint}\n"
    )
    before = sorted(tmp_path.rglob("*"))
    status, out, err = cli("run", *typed.split())
    assert (status, out) == (2, "")
    assert err.startswith("cl-fisher: error: ")
    assert err.count("\n") == 1
    assert hint in err
    assert sorted(tmp_path.rglob("*")) == before
    assert jobs.checked == jobs.ran == []


@pytest.mark.parametrize("plus", ["", "+"])
@pytest.mark.parametrize(
    ("key", "hint"),
    [("trainer.max_epochs", "epochs=..."), ("trainer.fast_dev_run", "debug=quick"), ("benchmark.seed", "seed=...")],
)
def test_what_the_run_sets_itself_is_refused(cli, jobs, key, hint, plus):
    status, _, err = cli("run", f"{plus}{key}=3")
    assert (status, err) == (2, f"cl-fisher: error: {key} is set by the run itself; write {hint}\n")
    assert jobs.checked == []


@pytest.mark.parametrize(
    "typed",
    [
        ["+trainer.deterministic=true"],
        ["+optimizer.amsgrad=true"],
        ["trainer.devices=[0]"],
        ["trainer.precision=bf16-mixed"],
        ["trainer.gradient_clip_val=1"],
        ["optimizer.betas=[0.5,0]"],
        ["fisher/estimator=signs", "fisher.estimator.samples=3"],
        ["strategy={strength:3}"],
        ["benchmark=split", "scenario=class", "n_tasks=10", "scenario.head=full"],
        ["experiment=[permuted_mnist,split_mnist]"],
        ["data_dir=3"],
        ["strategy=compose", "~strategy@strategy.parts.penalty", "~strategy.parts.penalty"],
        ["eval_every=9", "eval_samples=5"],
        ["experiment=blurred", "scenario=domain", "~scenario.head"],
        ["+many=3", "n_tasks=${many}"],
        ["output_dir='ünïcode_日本'"],
    ],
    ids=" ".join,
)
def test_what_is_no_mistake(cli, jobs, typed):
    status, _, err = cli("run", *typed)
    assert (status, err) == (0, "")
    assert len(jobs.ran) == 1


@pytest.mark.parametrize(
    "argv", [["run", "output_dir=new"], ["run"], ["report", "old", "-o", "new"], ["report", "old"]]
)
def test_a_folder_that_cannot_be_written_to_is_refused(cli, tmp_path, monkeypatch, argv):
    """By patching, since root may write everywhere; `os.access` is not to be trusted."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.json").write_text("{}")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    status, _, err = cli(*argv)
    assert status == 2
    assert "is not writable (Permission denied)" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no such file system here")
@pytest.mark.parametrize("folder", ["/proc/foo", "/proc/foo/bar", "/dev/null/foo"])
def test_a_file_system_that_takes_no_folders(cli, tmp_path, folder):
    (tmp_path / "metrics.json").write_text("{}")
    for argv in (["run", f"output_dir={folder}"], ["report", ".", "-o", folder]):
        status, _, err = cli(*argv)
        assert (status, err.count("\n")) == (2, 1)
        assert folder in err


def test_data_that_cannot_be_read_are_refused(cli, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)
    status, _, err = cli("run")
    assert status == 2
    assert "cannot be read" in err


def test_a_verb_that_does_not_exist(cli):
    assert "did you mean 'report'" in cli("reprot")[2]
    status, _, err = cli("epochs=3")
    assert status == 2
    assert "cl-fisher run epochs=3" in err


def test_the_same_key_twice_is_fine(cli, jobs):
    assert cli("run", "epochs=3", "epochs=4")[0] == 0
    assert jobs.ran[0]["cfg"].epochs == 4


def test_a_preset_is_not_blamed_for_what_was_typed(cli):
    status, _, err = cli("run", "experiment=split_mnist", "n_tasks=6")
    assert status == 2
    assert err.endswith("n_tasks can be at most 5\n")
