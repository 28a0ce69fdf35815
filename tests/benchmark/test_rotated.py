import math
import pickle

import pytest
import torch

from cl_fisher.benchmark.rotated import Rotation, rotated
from cl_fisher.benchmark.task import Scenario, TaskSequence
from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError


def make(scenario="domain", n_tasks=3, seed=0, fraction=0.1, data=None, **more) -> TaskSequence:
    return rotated(data or digits(), Scenario(scenario), n_tasks, seed, fraction, **more)


def angles(sequence: TaskSequence) -> list[float]:
    return [task.train.transform.angle if task.train.transform else 0.0 for task in sequence.tasks]


def points(n=40, scale=1.0, dtype=torch.float64) -> DataSet:
    where = torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=dtype) * scale
    examples = Examples(where, torch.arange(n), torch.arange(n) % 2, scale=scale)
    return DataSet(examples, examples, 2)


def turned_pixel_by_pixel(image: torch.Tensor, angle: float) -> torch.Tensor:
    """Each pixel of the result: where it comes from, and the four pixels around that place."""
    height, width = image.shape
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            right, up = column - (width - 1) / 2, (height - 1) / 2 - row
            x, y = cos * right + sin * up, cos * up - sin * right  # turned back: clockwise
            place = ((height - 1) / 2 - y, x + (width - 1) / 2)
            for r in (math.floor(place[0]), math.floor(place[0]) + 1):
                for c in (math.floor(place[1]), math.floor(place[1]) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        result[row, column] += (1 - abs(place[0] - r)) * (1 - abs(place[1] - c)) * image[r, c]
    return result


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0, 90.0, 133.7, 180.0, 270.0, -30.0, 365.0])
@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (5, 4)])
def test_images_as_pixel_by_pixel(angle, shape):
    raw = torch.rand(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = Rotation(angle)(raw)
    assert out.dtype == raw.dtype
    assert out.shape == raw.shape
    for i in range(2):
        for channel in range(3):
            torch.testing.assert_close(
                out[i, channel], turned_pixel_by_pixel(raw[i, channel], angle), atol=1e-12, rtol=0
            )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4, -1])
def test_quarter_turns_are_exact_and_anticlockwise(quarters, dtype):
    raw = (torch.rand(5, 2, 7, 7, generator=torch.Generator().manual_seed(0)) * 255).to(dtype)
    assert Rotation(90.0 * quarters)(raw).equal(torch.rot90(raw, quarters, (2, 3)))
    half = raw[:, :, :4]
    assert Rotation(180.0)(half).equal(half.flip(2, 3))


def test_whole_numbers_are_rounded_not_cut():
    raw = torch.full((1, 1, 9, 9), 255, dtype=torch.uint8)
    out = Rotation(45.0)(raw)
    assert out.dtype == torch.uint8
    assert out[0, 0, 2:7, 2:7].unique().tolist() == [255]
    assert out[0, 0, 0, 0] == 0
    random = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    exact = torch.stack([turned_pixel_by_pixel(image[0].double(), 30.0) for image in random])
    assert (Rotation(30.0)(random)[:, 0].double() - exact).abs().max() < 0.5 + 1e-4


def test_points_turn_around_the_centre_anticlockwise():
    corner = torch.tensor([[1.0, 0.5], [0.5, 0.5]], dtype=torch.float64)
    assert Rotation(90.0)(corner).equal(torch.tensor([[0.5, 1.0], [0.5, 0.5]], dtype=torch.float64))
    raw = points(scale=4.0).train.source
    around = torch.complex(raw[:, 0] - 2, raw[:, 1] - 2) * torch.polar(torch.tensor(1.0), torch.tensor(0.3)).to(
        torch.complex128
    )
    expected = torch.stack([around.real, around.imag], 1) + 2
    torch.testing.assert_close(Rotation(math.degrees(0.3), 4.0)(raw), expected, atol=1e-7, rtol=0)


def test_points_become_inputs():
    sequence = make("task", n_tasks=4, data=points(dtype=torch.float32), fraction=0)
    assert sequence.input_shape == (2,)
    everything = torch.arange(40)
    upright, *others = (task.test.inputs(everything) for task in sequence.tasks)
    for turn, other in enumerate(others, start=1):
        assert not other.allclose(upright)
        assert (other - 0.5).norm(dim=1).allclose((upright - 0.5).norm(dim=1), atol=1e-6), turn


def test_one_by_one_and_materialised_are_bit_for_bit_the_batch():
    part = make().tasks[1].train
    which = torch.tensor([7, 3, 3, 1000])
    batch = part.inputs(which)
    assert part.materialised().inputs(which).equal(batch)
    for i, one in enumerate(which):
        assert part.inputs(one.view(1)).equal(batch[i : i + 1])


def test_pieces_do_not_matter(monkeypatch):
    raw = digits().test.source[:50]
    whole = Rotation(33.0)(raw)
    monkeypatch.setattr("cl_fisher.benchmark.rotated._PIECE", 7)
    assert Rotation(33.0)(raw).equal(whole)


def test_angles_even_leave_out_the_last():
    assert angles(make(n_tasks=5)) == [0, 36, 72, 108, 144]
    assert angles(make(n_tasks=4, max_angle=360)) == [0, 90, 180, 270]


def test_angles_listed():
    assert angles(make(angles=[10, 0, -22.5])) == [10, 0, -22.5]


def test_angles_drawn_depend_on_seed_and_task_number_only():
    short, long = angles(make(angles="random")), angles(make("task", n_tasks=6, angles="random", fraction=0))
    assert long[:3] == short
    assert all(0 <= angle < 180 for angle in long)
    assert [2 * a for a in short] == pytest.approx(angles(make(angles="random", max_angle=360)))
    assert angles(make(angles="random", seed=1)) != short
    assert angles(make(angles="random", seed=1, order_seed=0)) == short


@pytest.mark.parametrize(
    ("scenario", "units"),
    [
        ("domain", [range(10)] * 3),
        ("task", [range(10), range(10, 20), range(20, 30)]),
        ("class", [range(10), range(10, 20), range(20, 30)]),
    ],
)
def test_units_and_parts(scenario, units):
    sequence = make(scenario)
    assert [task.units for task in sequence.tasks] == units
    assert sequence.n_outputs == units[-1].stop
    for task in sequence.tasks:
        assert task.test.targets.equal(digits().test.targets + task.units.start)
        assert task.train.targets.unique().tolist() == list(task.units)
        assert torch.cat([task.train.rows, task.validation.rows]).sort().values.equal(digits().train.rows)
        assert {part.transform for part in (task.train, task.validation, task.test)} == {task.test.transform}


def flat(*shape) -> DataSet:
    examples = Examples(torch.zeros(4, *shape, dtype=torch.int64), torch.arange(4), torch.tensor([0, 1, 0, 1]))
    return DataSet(examples, examples, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"angles": [0, 30]}, r"angles=\[0, 30\]: it has 2 entries for n_tasks=3"),
        ({"angles": "odd"}, "angles=odd: even, random or a list"),
        ({"angles": [0, 1, float("nan")]}, "list of degrees"),
        ({"angles": [0, 1, True]}, "list of degrees"),
        ({"max_angle": 0}, "max_angle=0"),
        ({"data": flat(5)}, r"not inputs of shape \(5,\)"),
        ({"data": flat(2)}, r"\(floats\), not inputs of shape \(2,\) and type torch.int64"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        make(**arguments)
    assert "\n" not in str(error.value)


def test_goes_to_worker_processes():
    sequence = pickle.loads(pickle.dumps(make()))
    assert sequence.tasks[1].train.inputs(torch.arange(5)).equal(make().tasks[1].train.inputs(torch.arange(5)))
