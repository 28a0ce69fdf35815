"""Every wrong input: exit 2, one line on stderr that names the mistake, nothing created."""

import pytest

MISTAKES = [
    ("stratgy=ewc", "did you mean 'strategy'"),
    ("strategy=ewcc", "did you mean 'ewc'? there are cumulative, ewc, finetune, joint, online_ewc"),
    ("strategy=", "there are cumulative, ewc"),
    ("strategy=null", "there are cumulative, ewc"),
    ("~strategy", "strategy is missing"),
    ("fisher/estimater=exact", "did you mean 'fisher/estimator'"),
    ("fisher=exact", "there are fisher/estimator, fisher/structure"),
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
    ("strategy.foo.bar=1", "there is no key 'strategy.foo.bar'"),
    ("seed=abc", "seed=abc: a whole number"),
    ("seed=-1", "seed=-1 is out of range"),
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
    ("strategy=online_ewc strategy.gamma=2", "strategy.gamma=2 is out of range"),
    ("model.hidden=400", "a list is wanted"),
    ("optimizer_state=rest", "did you mean 'reset'"),
    ("checkpoint=lst", "not one of last, all, none"),
    ("verbosity=3", "not one of 0, 1, 2"),
    ("loader.in_memory=yes", "not one of auto, true, false"),
    ("loader=3", "it has options of its own"),
    ("scenario=class scenario.head=ful", "did you mean 'full'"),
    ("scenario.name=taks", "did you mean 'task'"),
    ("optimizer.lrr=1", "did you mean 'optimizer.lr'"),
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
    ("data_dir=afile", "is not a folder"),
    ("output_dir=afile", "is not a folder"),
    ("output_dir=afile/deeper", "is not a folder"),
    ("output_dir=old", "already holds a run (metrics.json)"),
    ("-m output_dir=old_sweep seed=0,1", "already holds a run (multirun.json)"),
]


@pytest.mark.parametrize(("typed", "hint"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_2(cli, jobs, tmp_path, typed, hint):
    (tmp_path / "afile").write_text("")
    for folder, name in (("old", "metrics.json"), ("old_sweep", "multirun.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = cli("run", *typed.split())
    assert (status, out) == (2, "")
    assert err.startswith("cl-fisher: error: ")
    assert err.count("\n") == 1
    assert hint in err
    assert sorted(tmp_path.rglob("*")) == before
    assert jobs.checked == jobs.ran == []


def test_a_folder_that_cannot_be_written_to_is_refused(cli, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    status, _, err = cli("run", "output_dir=new")
    assert status == 2
    assert "is not writable" in err


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
