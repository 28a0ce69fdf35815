"""How a layer's input and output gradient become what a structure keeps: one file per layer type."""
