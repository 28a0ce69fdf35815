import pytest
import torch

from cl_fisher.benchmark.sequence import sequence
from cl_fisher.benchmark.task import Scenario, TaskSequence
from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError


def drawn(shape, n_classes=2, n=12, dtype=torch.uint8, scale=255.0) -> DataSet:
    high = 256 if dtype == torch.uint8 else 1000
    draw = torch.Generator().manual_seed(len(shape) + shape[-1])
    source = torch.randint(0, high, (n, *shape), generator=draw).to(dtype)
    examples = Examples(source, torch.arange(n), torch.arange(n) % n_classes, scale)
    rest = Examples(source.flip(0), torch.arange(n), torch.arange(n) % n_classes, scale)
    return DataSet(examples, rest, n_classes)


GREY, COLOUR, WIDE = drawn((1, 4, 4)), drawn((3, 7, 6), 3), drawn((1, 5, 9), dtype=torch.float32, scale=1000.0)


def make(*data, scenario="task", n_tasks=None, fraction=0.0, **more) -> TaskSequence:
    named = {f"task{i}": one for i, one in enumerate(data, start=1)}
    return sequence(named, Scenario(scenario), n_tasks or len(data), 0, fraction, **more)


def everything(examples: Examples) -> torch.Tensor:
    return examples.inputs(torch.arange(len(examples)))


@pytest.mark.parametrize("part", ["train", "test"])
def test_padding_keeps_every_pixel_in_the_middle(part):
    tasks = make(GREY, COLOUR, WIDE).tasks
    assert [getattr(task, part).shape for task in tasks] == [(3, 7, 9)] * 3
    for task, data, rows, columns in zip(
        tasks,
        (GREY, COLOUR, WIDE),
        (slice(1, 5), slice(0, 7), slice(1, 6)),
        (slice(2, 6), slice(1, 7), slice(0, 9)),
        strict=True,
    ):
        formed, plain = everything(getattr(task, part)), everything(getattr(data, part))
        assert formed[:, :, rows, columns].equal(plain.expand(-1, 3, -1, -1))
        assert formed.sum() == pytest.approx(plain.expand(-1, 3, -1, -1).sum().item(), rel=1e-5), "zeros around"
        assert 0 <= formed.min() <= formed.max() <= 1


def test_types_stay_raw():
    assert [task.train.source.dtype for task in make(GREY, COLOUR, WIDE).tasks] == [
        torch.uint8,
        torch.uint8,
        torch.float32,
    ]


def enlarged(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear, pixel by pixel: centres of pixels at i + 1/2, edges repeated."""
    result = torch.empty(size, dtype=torch.float64)
    for r in range(size[0]):
        for c in range(size[1]):
            places = [
                min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
                for i, old, new in zip((r, c), image.shape, size, strict=True)
            ]
            weights = [
                [(k, max(0.0, 1 - abs(p - k))) for k in range(n)] for p, n in zip(places, image.shape, strict=True)
            ]
            result[r, c] = sum(a * b * image[i, j].item() for i, a in weights[0] for j, b in weights[1])
    return result


def test_resizing_is_bilinear():
    grey, _, wide = make(GREY, COLOUR, WIDE, fit="resize").tasks
    for task, data, step in ((grey, GREY, 255), (wide, WIDE, None)):
        for i in (0, 5):
            expected = enlarged(data.train.source[i, 0].double(), (7, 9)) / data.train.scale
            found = everything(task.train)[i].double()
            assert found.equal(found[:1].expand(3, -1, -1))
            assert (found[0] - expected).abs().max() < (0.5001 / step if step else 1e-6)


def test_the_largest_alone_is_untouched_and_nothing_is_copied():
    one, two = make(GREY, GREY, fit="resize").tasks
    assert one.train.source.data_ptr() == two.train.source.data_ptr() == GREY.train.source.data_ptr()


def test_points_need_no_form():
    plane = drawn((2,), dtype=torch.float32)
    assert make(plane, plane, scenario="domain").input_shape == (2,)


@pytest.mark.parametrize(
    ("scenario", "data", "units"),
    [
        ("task", (GREY, COLOUR), [range(2), range(2, 5)]),
        ("class", (GREY, COLOUR), [range(2), range(2, 5)]),
        ("domain", (GREY, WIDE), [range(2), range(2)]),
    ],
)
def test_units_and_targets(scenario, data, units):
    tasks = make(*data, scenario=scenario)
    assert [task.units for task in tasks.tasks] == units
    assert tasks.n_outputs == units[-1].stop
    for task, own in zip(tasks.tasks, data, strict=True):
        assert task.train.targets.equal(own.train.targets + task.units.start)
        assert task.test.targets.equal(own.test.targets + task.units.start)


def test_fewer_tasks_take_the_first_ones():
    tasks = make(GREY, WIDE, COLOUR, n_tasks=2)
    assert [task.number for task in tasks.tasks] == [1, 2]
    assert tasks.input_shape == (1, 5, 9), "the third has no say"


def test_validation_examples_are_held_out_of_each():
    for task in make(digits(), WIDE, fraction=0.25).tasks:
        assert len(task.validation) == pytest.approx((len(task.train) + len(task.validation)) / 4, abs=5)
        assert not torch.isin(task.validation.rows, task.train.rows).any()
        assert not torch.isin(task.test.rows, task.train.rows).any() or task.number == 2


@pytest.mark.parametrize(
    ("data", "more", "words"),
    [
        ((GREY,), {"n_tasks": 2}, r"n_tasks=2 is more than the 1 data sets.*\+dataset@benchmark\.datasets\.task2=NAME"),
        ((GREY, COLOUR), {"scenario": "domain"}, r"scenario=domain: .*same number.*\(task1 2, task2 3\)"),
        ((GREY, drawn((2,))), {}, r"no common form.*task1 \(1, 4, 4\), task2 \(2,\)"),
        ((COLOUR, drawn((4, 7, 6))), {}, "no common form"),
        ((drawn((2,)), drawn((3,))), {}, "no common form"),
    ],
)
def test_refused(data, more, words):
    with pytest.raises(InputError, match=words) as error:
        make(*data, **more)
    assert "\n" not in str(error.value)
