"""Options that the run sets itself: what a configuration says about them would be lost, or cut the run short."""

INSTEAD: dict[str, dict[str, str]] = {
    "trainer": {
        "max_epochs min_epochs": "write epochs=...",
        "max_steps min_steps max_time": "write iterations=...",
        "limit_train_batches overfit_batches": "write iterations=... for fewer steps",
        "fast_dev_run": "write debug=quick",
        "logger": "write logger=...",
        "log_every_n_steps": "write log_every=...",
        "enable_checkpointing": "write checkpoint=...",
        "default_root_dir": "write output_dir=...",
        "enable_progress_bar enable_model_summary": "write -q or -v",
        "val_check_interval check_val_every_n_epoch limit_val_batches limit_test_batches num_sanity_val_steps": (
            "every task is evaluated after each task, on all examples"
        ),
        "callbacks barebones reload_dataloaders_every_n_epochs use_distributed_sampler": "it cannot be changed",
    },
    "benchmark": {
        "dataset": "write dataset=...",
        "scenario": "write scenario=...",
        "n_tasks": "write n_tasks=...",
        "seed": "write seed=...",
        "validation_fraction": "write validation_fraction=...",
    },
    "model": {"input_shape n_outputs": "it follows from the tasks"},
    "strategy": {"model": "write model=..."},
    "logger": {"directory": "write output_dir=..."},
}
"""By component: options, and what to do instead."""


def refusal(path: str, key: str) -> str | None:
    """The one line about an option that is not the configuration's to set; None if it is."""
    hints = (hint for names, hint in INSTEAD.get(path, {}).items() if key in names.split())
    return next((f"{path}.{key} is set by the run itself; {hint}" for hint in hints), None)
