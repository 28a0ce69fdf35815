import re
import sys
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from cl_fisher.event import Evaluated, RunEnded, RunStarted, TaskEnded, TaskStarted
from cl_fisher.reporting import terminal
from cl_fisher.reporting.terminal import Terminal


def show(events, verbosity=1, cell="", live=False, width=100) -> str:
    out = StringIO()
    console = Console(file=out, force_terminal=live, width=width, _environ={"TERM": "xterm"})
    listener = Terminal(verbosity, cell, console)
    listener.load_state_dict(listener.state_dict())
    for event in events:
        listener.handle(event)
    return out.getvalue()


def last_screen(text: str) -> str:
    """What stays on the screen, for output that only ever erases lines above the cursor."""
    lines = [""]
    for part in re.findall(r"\x1b\[\?25[lh]|\x1b\[1A|\x1b\[2K|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+", text):
        if part == "\x1b[1A":
            lines.pop()
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif part == "\n":
            lines.append("")
        elif not part.startswith(("\x1b", "\r")):
            lines[-1] += part
    return "\n".join(lines).strip()


def test_plain_lines(events):
    assert show(events).splitlines() == [
        "task 1/2  loss 1.25  acc 90.0 %  avg 90.0 %  0 s",
        "task 2/2  loss 0.5  acc 70.0 %  avg 75.0 %  forgetting 10.0 %  0 s",
        "finished in 0 s  avg 75.0 %  forgetting 10.0 %",
    ]


def test_plain_lines_are_plain(events):
    assert "\x1b" not in show(events, verbosity=2)


def test_chatty_adds_the_fisher(events):
    lines = show(events, verbosity=2).splitlines()
    assert lines[0].startswith("task 1/2  Fisher: estimator exact  structure diagonal  samples 90  seconds 0.5")
    assert len(lines) == 5


@pytest.mark.parametrize("live", [False, True])
def test_quiet(events, failed, live):
    assert show(events, verbosity=0, live=live) == ""
    assert show(failed, verbosity=0, live=live) == "failed: the loss is not finite\n"


@pytest.mark.parametrize("live", [False, True])
def test_a_cell_leaves_one_line(events, live):
    text = show(events, cell="2/9 tags=[a,b] seed=0", live=live)
    assert last_screen(text) == "2/9 tags=[a,b] seed=0  finished in 0 s  avg 75.0 %  forgetting 10.0 %"


@pytest.mark.parametrize(("status", "line"), [("failed", "failed: [x] no"), ("interrupted", "interrupted in 0 s")])
@pytest.mark.parametrize("live", [False, True])
def test_early_end(events, live, status, line):
    text = show([*events[:4], RunEnded(status, 1, {}, "[x] no")], live=live)
    assert last_screen(text) == line
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == int(live)  # the cursor is back


def test_end_before_the_start():
    assert show([RunEnded("failed", 0, {}, "no data")], live=True) == "failed: no data\n"


def test_live_display(events, monkeypatch):
    monkeypatch.setattr(terminal, "REFRESH_SECONDS", -1.0)
    text = show(events[:11], live=True)
    screen = last_screen(text)
    assert re.search(r"tasks .* 1/2 .* avg 90\.0 %", screen)
    assert re.search(r"task 2/2 .* 1/2 .* epoch 1  loss 0\.75  penalty 0\.25", screen)
    assert "evaluating" in text
    assert len(screen.splitlines()) == 2


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_long_name_of_a_cell_leaves_room_for_the_numbers(events, monkeypatch, width):
    monkeypatch.setattr(terminal, "REFRESH_SECONDS", -1.0)
    name = "000_strategy=ewc,seed=0,iterations=400,logger=none,model.hidden=[20],n_tasks=2,optimizer=adam"
    screen = last_screen(show(events[:11], cell=name, live=True, width=width))
    assert re.search(r"000_strategy=ewc,[^ ]*… .* 1/2 .* avg 90\.0 %", screen)
    assert len(screen.splitlines()) == 2
    assert last_screen(show(events, cell=name, live=True, width=width)).startswith(f"{name}  finished")


def test_live_display_after_resume(resumed):
    assert re.search(r"tasks .* 1/2", last_screen(show(resumed[:3], live=True)))


def test_what_others_print_stays_readable(events):
    out = StringIO()
    listener = Terminal(1, "", Console(file=out, force_terminal=True, width=100, _environ={"TERM": "xterm"}))
    for event in events[:4]:
        listener.handle(event)
    print("a warning", file=sys.stderr)
    for event in events[4:]:
        listener.handle(event)
    assert last_screen(out.getvalue()) == "a warning\nfinished in 0 s  avg 75.0 %  forgetting 10.0 %"


def test_steps_draw_four_times_a_second_at_most(events, monkeypatch):
    clock = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock)
    listener = Terminal(1, "", Console(file=StringIO(), force_terminal=True, _environ={"TERM": "xterm"}))
    listener.handle(events[0])
    listener.handle(TaskStarted(1, 100, 10_000, 1))
    drawn = []
    monkeypatch.setattr(listener._bars._progress, "refresh", lambda: drawn.append(clock))
    for step in range(1, 2001):  # a millisecond each
        clock = step / 1000
        listener.handle(replace(events[3], step=step))
    assert 6 <= len(drawn) <= 8
    listener.handle(RunEnded("finished", 1))


def test_joint_training_has_no_accuracy_of_its_task():
    joint = [RunStarted(5, 1, {}, {}), Evaluated(5, 9, "test", (0.9,) * 5, (1,) * 5)]
    text = show([*joint, TaskEnded(1, 9, {"avg_accuracy": 0.9})])
    assert text.startswith("task 1/1  avg 90.0 %  ")
