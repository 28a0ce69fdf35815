"""Raw data as tensors: one file per source."""
