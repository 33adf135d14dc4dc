"""What changes as an agent learns, by its updates alone: where n-step returns and the discount start, and when parts of
it start again."""

from dataclasses import dataclass, replace

from rlrep.settings import ranges


@dataclass(frozen=True)
class Schedule:
    """Settings of `agent.n_step_schedule` and `agent.discount_schedule`: on the way to the agent's own value, from the
    first update and from each reset on (BBF, Schwarzer et al. 2023, arXiv 2305.19452).

    start: where it begins; None = there is none. updates: over which it goes.
    """

    start: float | None = None
    updates: int | None = None

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("updates",))
        if self.start is not None and self.updates is None:
            raise ValueError(f"start={self.start:g} needs updates: over how many it goes to the agent's own value")

    def between(self, end: float, since: int) -> float:
        """Return the value `since` updates after the start: in equal ratios to `end`, and from then on that."""
        if self.start is None or self.updates is None or since >= self.updates:
            return end
        left = 1 - since / self.updates
        return float(self.start**left * end ** (1 - left))

    def horizon(self, n_step: int, since: int) -> int:
        """Return the steps to sum."""
        return round(self.between(n_step, since))

    def discount(self, discount: float, since: int) -> float:
        """Return the discount, on the way in equal ratios of 1 - discount."""
        if self.start is None:
            return discount
        return 1 - Schedule(1 - self.start, self.updates).between(1 - discount, since)


@dataclass(frozen=True)
class Resets:
    """Settings of `agent.resets`: networks become in part new ones every so many updates (Nikishin et al. 2022, arXiv
    2205.07802; D'Oro et al. 2023, OpenReview OpC-9aBBVJe), and the optimiser starts again on what did.

    every: updates between resets; None = there are none. until: no reset after so many updates; None = as long as the
        run goes on for half of `every`.
    keep_encoder, keep_head, keep_aux: share of the old weights of encoder, Q head and auxiliary heads in the sum with
        new ones. 1 = untouched, 0 = new, between: shrink and perturb (Ash & Adams 2020, arXiv 1910.08475). A head's
        model of latents goes with the encoder (`rlrep.heads.Head.like_encoder`), targets with their networks.
    """

    every: int | None = None
    until: int | None = None
    keep_encoder: float = 1.0
    keep_head: float = 0.0
    keep_aux: float = 0.0

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("every", "until"))
        ranges.share(self, ("keep_encoder", "keep_head", "keep_aux"))
        if self.every and self.until and self.until < self.every:
            raise ValueError(f"until={self.until} is before the first reset, at update {self.every}")

    def latest(self, updates: int) -> int:
        """Return the number of the update after which the latest reset was, 0 before the first."""
        if self.every is None:
            return 0
        return (updates if self.until is None else min(updates, self.until)) // self.every * self.every

    def due(self, updates: int) -> bool:
        """Whether a reset follows update `updates`."""
        return updates > 0 and self.every is not None and self.latest(updates) == updates

    def within(self, updates: int) -> "Resets":
        """Return the settings of a run of so many updates. Raises ValueError if it would be over before a reset."""
        if self.every is None:
            return self
        until = updates - self.every // 2 if self.until is None else self.until
        if self.every > min(until, updates - 1):
            raise ValueError(
                f"resets.every={self.every}: a run of {updates} updates has no room for a reset, and for half as many "
                f"updates after it: choose fewer, or resets.every=null"
            )
        return replace(self, until=until)
