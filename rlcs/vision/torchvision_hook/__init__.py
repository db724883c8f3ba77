"""On PYTHONPATH of processes that may import torchvision."""
