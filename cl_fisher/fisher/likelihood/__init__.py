"""What is a target, and how probable is it? Distributions over targets given the network's outputs. One file each."""
