"""From hidden states to tokens: logits, the stages that change them, the draw and the logprobs.

Not here: which rows draw in a step (worker/inputs.py), when a sequence ends (scheduler/).
Door: sampler.Sampler.
"""
