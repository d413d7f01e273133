"""What the loop does beside training, on several ranks: judged, averaged, looked at, moved by Muon."""

import torch
from parallel.parity import everywhere, share, trainee, whole

from puna.train.average import Average, AverageSettings
from puna.train.batches import next_token_loss
from puna.train.health import Health, HealthSettings
from puna.train.optimizer import Optimizer, OptimizerSettings
from puna.train.statistics import Statistics
from puna.train.step import in_turn, steps


def walked(layout: dict, kind: str = "adamw", bad: int | None = None, times: int = 0) -> dict:
    """Four steps in fp64. In step 1 the loss of rank `bad` is not a number, so many times that it is asked."""
    found = trainee(layout)
    world, models, position, left = found.world, found.models, found.position, [times]
    optimizer = Optimizer(models, OptimizerSettings(kind=kind), None, world)
    look = Statistics(models, optimizer, position, 2, world)
    average = Average(AverageSettings(last=3), optimizer.masters, 4, 0)
    left = [times]

    def loss(model, part):
        sick = world.rank == bad and position.step == 1 and left[0] > 0
        left[0] -= sick
        return next_token_loss(model, part) * (float("nan") if sick else 1.0)

    accumulate = found.accumulate if bad is None else in_turn(models[0], loss)
    found = {"statistics": [], "skipped": [], "repeated": []}
    health = Health(HealthSettings(repeat_bad=times == 1))
    for step in steps(accumulate, look, share(world, 2), lambda _: 1e-2, health, position, 4, world):
        average.take(step.step)
        found["skipped"].append(step.skipped)
        found["repeated"].append(step.repeated)
        if look.is_due(step.step):
            found["statistics"].append(look.found(step))
    own = {name: whole(weight) for name, weight in optimizer.masters.items()}
    means = {name: whole(mean) for name, mean in average.means.items()}
    with average.as_weights():
        swapped = {name: whole(weight) for name, weight in optimizer.masters.items()}
    assert all(torch.equal(swapped[name], mean) for name, mean in means.items())
    assert all(torch.equal(whole(optimizer.masters[name]), kept) for name, kept in own.items())
    return found | {"weights": everywhere(own, world), "means": everywhere(means, world)}
