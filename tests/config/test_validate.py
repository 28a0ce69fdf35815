"""What the command line cannot type; its own mistakes are in tests/cli/test_mistake.py."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from cl_fisher.benchmark import task
from cl_fisher.config import conf_dir, register_resolvers, validate
from cl_fisher.config.root import SCHEMA, Root
from cl_fisher.error import InputError


@pytest.fixture
def cfg():
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config")


def test_the_default_is_right(cfg):
    before = OmegaConf.to_yaml(cfg)
    validate(cfg)
    assert OmegaConf.to_yaml(cfg) == before


def test_the_schema_has_the_keys_of_the_file(cfg):
    assert set(Root.__dataclass_fields__) == set(cfg)
    assert hasattr(task, SCHEMA["scenario"].rpartition(".")[2])


def test_a_key_of_ones_own_is_fine_where_something_refers_to_it(cfg):
    with open_dict(cfg):
        cfg.many = 3
        with pytest.raises(InputError, match="there is no key 'many'"):
            validate(cfg)
        cfg.epochs = "${many}"
    validate(cfg)


def test_a_group_of_ones_own_is_fine(cfg):
    with open_dict(cfg):
        cfg.extra = {"_target_": "somewhere.Else", "anything": 1}
    validate(cfg)


def test_a_mistake_is_reported_where_it_was_made(cfg):
    with open_dict(cfg):
        cfg.fisher.estimator.foo = 1
    with pytest.raises(InputError, match=r"^fisher\.estimator\.foo"):
        validate(cfg)


@pytest.mark.parametrize(("key", "dataset"), [("root", "image_folder"), ("path", "arrays")])
def test_where_ones_own_data_lie(cfg, key, dataset):
    cfg[key] = "somewhere"
    with pytest.raises(InputError, match=f"^{key}=somewhere belongs to dataset={dataset}"):
        validate(cfg)
    with open_dict(cfg):
        cfg.dataset = {"_target_": f"cl_fisher.dataset.{dataset}.{dataset}", key: f"${{{key}}}"}
    validate(cfg)
    cfg[key] = ""
    with pytest.raises(InputError, match=f"^{key}= is empty"):
        validate(cfg)
    cfg[key] = None
    with pytest.raises(InputError, match=f"^{key} is missing.*write {key}="):
        validate(cfg)


@pytest.mark.parametrize(
    ("dataset", "most"),
    [
        ({"_target_": "cl_fisher.dataset.digits.digits"}, 10),
        ({"_target_": "cl_fisher.dataset.vision.vision", "name": "CIFAR100"}, 100),
        ({"_target_": "cl_fisher.dataset.vision.vision", "name": "EMNIST", "split": "letters"}, 26),
        ({"_target_": "cl_fisher.dataset.omniglot.omniglot", "label": "alphabet"}, 50),
        ({"_target_": "cl_fisher.dataset.tiny_imagenet.tiny_imagenet"}, 200),
    ],
)
def test_no_more_tasks_than_classes(cfg, dataset, most):
    with open_dict(cfg):
        cfg.dataset = dataset
        cfg.benchmark = {"_target_": "cl_fisher.benchmark.split.split"}
    cfg.scenario.name = "class"
    cfg.n_tasks = most - 1
    validate(cfg)
    cfg.n_tasks = most + 1
    with pytest.raises(InputError, match=f"does not fit {most} classes"):
        validate(cfg)


@pytest.mark.parametrize("value", ["???", "${nowhere}", "${oc.env:SURELY_NOT_SET}"])
def test_a_value_that_cannot_be_resolved_is_one_line(cfg, value):
    cfg.seed = value
    with pytest.raises(InputError) as caught:
        validate(cfg)
    assert "\n" not in str(caught.value)
    assert "seed" in str(caught.value)


def test_conf_lies_in_the_package_or_beside_it(tmp_path, monkeypatch):
    assert (conf_dir() / "config.yaml").is_file()
    monkeypatch.setattr("cl_fisher.__file__", str(tmp_path / "site" / "cl_fisher" / "__init__.py"))
    (tmp_path / "site" / "cl_fisher").mkdir(parents=True)
    assert conf_dir() == tmp_path / "site" / "conf"
    (tmp_path / "site" / "cl_fisher" / "conf").mkdir()
    assert conf_dir() == tmp_path / "site" / "cl_fisher" / "conf"


def test_the_scenario_names_are_read_from_their_file(cfg):
    cfg.scenario.name = "taks"
    with pytest.raises(InputError, match="did you mean 'task'"):
        validate(cfg)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["benchmark=split", "n_tasks=6"], "n_tasks can be one of"),
        (["benchmark=split", "scenario=class", "n_tasks=11"], "at most 9"),
        (["benchmark=split", "scenario=class", "n_tasks=11", "scenario.head=full"], "at most 10"),
        (["benchmark=split", "scenario=class", "benchmark.sizes=[5,5]"], "sizes"),
    ],
)
def test_a_split_that_the_classes_do_not_allow(overrides, message):
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides)
    with pytest.raises(InputError, match=message):
        validate(cfg)
