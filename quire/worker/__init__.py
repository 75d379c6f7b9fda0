"""The owner of a device: loads a model and runs steps.

Not here: what a step must do (scheduler/), how the engine reaches a worker (engine/executors/).
Door: main.open_worker.
"""
