"""What can be set, what a checkpoint says, and what was decided from both.

Not here: anything that computes with tensors. Both stacks may read this package; it never imports torch.
"""
