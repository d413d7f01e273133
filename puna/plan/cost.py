"""What a run takes: hours, energy, money. Nothing is assumed of prices: who asks says what an hour costs."""

from dataclasses import dataclass

from puna.plan.machines import GOODPUT, Gpu

# times the GPU's watts, with its share of processors, fans and network: a DGX H100 takes at most 10.2 kW for
# 8 x 700 W [NVIDIA DGX H100 data sheet], of which training is taken to use four fifths
SERVER = 1.45


@dataclass(frozen=True)
class Cost:
    tokens: float
    hours: float  # on the clock
    gpu_hours: float
    energy_kwh: float | None  # not told of a machine whose watts are unknown
    money: float | None


def cost(
    tokens: float, tokens_a_second: float, ranks: int, machine: Gpu, pue: float = 1.1,
    price: float | None = None, goodput: float = GOODPUT,
) -> Cost:  # fmt: skip
    """tokens_a_second of all ranks; pue: power of the building over that of its servers; price of an hour."""
    hours = tokens / tokens_a_second / 3600 / goodput
    gpu_hours = hours * ranks
    energy = gpu_hours * machine.watts / 1000 * SERVER * pue if machine.watts else None
    return Cost(tokens, hours, gpu_hours, energy, None if price is None else gpu_hours * price)
