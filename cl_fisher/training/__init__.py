"""The only Lightning: module, data module, the task loop."""
