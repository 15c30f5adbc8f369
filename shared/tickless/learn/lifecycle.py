"""The rules of a model's life: who enters the shadow, who becomes champion, who goes back, who is retired. Pure: evidence in, changes out.

No queue can jam: a challenger has a deadline, which is never shorter than the evidence that its gate asks for takes to come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tickless.alpha.model_life import CHALLENGER, FORMER, NOBODY, LifeChange, ModelEvent, ModelLife, Promotion
from tickless.learn.drift import SEVERITY, DriftReport
from tickless.learn.gates import GateDecision
from tickless.learn.track import Comparison, Track, compare
from tickless.settings import TrainingSection

LATENCY_DAYS = 3.0
"""Experience of a day is read the night after its outcomes are known: so long after the tick, and the horizon, at most."""


@dataclass(frozen=True)
class LifeRules:
    """The rules for one model."""

    training: TrainingSection
    horizon_h: float

    @property
    def evidence_days(self) -> float:
        """How long a version must forecast until there are ``shadow_min_periods`` outcomes that share nothing, and they are known."""
        return (self.training.shadow_min_periods + 1) * self.horizon_h / 24.0 + LATENCY_DAYS

    @property
    def deadline(self) -> timedelta:
        """How long a challenger may stay in shadow."""
        return timedelta(days=max(self.training.shadow_deadline_days, self.evidence_days))

    @property
    def watch(self) -> timedelta:
        """How long a former champion goes on in shadow."""
        return timedelta(days=max(self.training.watch_days, self.evidence_days))

    def beats(self, found: Comparison) -> bool:
        """Whether a comparison promotes: surely better at ranking, and no worse after costs where that can be told."""
        surely = found.periods >= self.training.shadow_min_periods and found.mean > 0.0 and found.t >= self.training.shadow_min_t
        return surely and not found.net_frac < 0.0

    def lost(self, found: Comparison) -> bool:
        """Whether a comparison of the champion with its former rolls back."""
        return found.periods >= self.training.shadow_min_periods and found.t <= -self.training.rollback_t


def never_proven(training: TrainingSection, horizons_h: Mapping[str, float]) -> tuple[str, ...]:
    """One sentence for each model, given its horizon in hours, whose versions are too old for use before their evidence is in.

    Its challengers are retired unproven; it gets a new champion only where the former has grown too old itself.
    """
    if training.promotion != "shadow":
        return ()
    limit = training.max_model_age_days
    needed = {name: LifeRules(training, horizon_h).evidence_days for name, horizon_h in horizons_h.items()}
    return tuple(
        f"training.shadow_min_periods: {training.shadow_min_periods} takes {days:g} days of shadow for model {name}, whose versions are "
        f"used for training.max_model_age_days = {limit:g}: no challenger can prove itself"
        for name, days in needed.items()
        if days >= limit
    )


@dataclass(frozen=True)
class Moment:
    """When changes count from, and when they are written."""

    at: datetime
    now: datetime
    by: str = "nightly"

    def event(self, version: str, stage: str, reason: str, **more: object) -> ModelEvent:
        """An event of this moment."""
        return ModelEvent(version, stage, self.at, reason, self.by, **more)  # type: ignore[arg-type]

    def promotion(self, version: str, reason: str) -> Promotion:
        """A promotion of this moment."""
        return Promotion(version, self.at, self.now, reason)


def review(
    life: ModelLife,
    tracks: Mapping[str, Track | None],
    problems: Mapping[str, str],
    rules: LifeRules,
    moment: Moment,
) -> LifeChange:
    """What the evidence changes: rollback, promotion out of the shadow, retirement.

    ``tracks`` are those of the champion and of all in shadow, by version; ``problems`` say of versions why no tick can use them. At most
    one version becomes champion; a champion that no tick can use stands in nobody's way.
    """
    change = LifeChange(events=tuple(_retire_broken(life, problems, moment)))
    life = life.with_(change)
    champion = life.champion(moment.at)
    if champion is None or champion.version in problems:
        new = _fill_vacancy(life, tracks, rules, moment)
    else:
        new = _roll_back(life, champion.version, tracks, rules, moment) or _promote(life, champion.version, tracks, rules, moment)
    change, life = change.and_(new), life.with_(new)
    return change.and_(LifeChange(events=tuple(_retire_late(life, tracks, rules, moment))))


def enter(
    life: ModelLife, version: str, gate: GateDecision, rules: LifeRules, moment: Moment, *, usable: bool, early: bool = False
) -> LifeChange:
    """What becomes of a version that was just trained and validated.

    ``usable`` says whether a tick can use the champion that there is; without one, the version that passed its gates takes its place. An
    ``early`` one, trained because the champion has drifted, takes the place of the challenger that has waited longest, if that was trained
    before this champion first drifted: each may be displaced once, or a drift that lasts would let nobody wait for its evidence.
    """
    if not gate.promote or life.stage(version, moment.at) != "candidate":
        return LifeChange()
    champion = life.champion(moment.at)
    if champion is None or not usable or rules.training.promotion == "direct":
        return _crown(life, version, gate.reason, moment, keep=False)
    challengers = life.shadows(moment.at, CHALLENGER)
    joins = moment.event(version, "shadow", gate.reason, role=CHALLENGER)
    if len(challengers) < rules.training.max_shadows:
        return LifeChange(events=(joins,))
    drifted = _first_drift(life, champion, moment.at)
    if early and drifted is not None and challengers[0].at < drifted:
        gone = moment.event(
            challengers[0].version, "retired", f"made room for {version}, which was trained because the champion has drifted"
        )
        return LifeChange(events=(gone, joins))
    return LifeChange()


def react(life: ModelLife, report: DriftReport, shrink_frac: float, moment: Moment) -> LifeChange:
    """What drift changes for the champion: how far it is trusted. Nothing where that is so already, or there is no champion.

    An action stays, too, while what caused it cannot be told (``holds``): not to know is no recovery.
    """
    champion = life.champion(moment.at)
    if champion is None:
        return LifeChange()
    before = _last_drift(life, champion, moment.at)
    known, causes = (before.action, before.causes) if before is not None else ("", ())
    action = report.action or ""
    # The same action is told anew only where nothing of what caused it does so any more: what it waits for is another then.
    same = action == known and (not action or not set(causes).isdisjoint(report.causes))
    if same or holds(life, report, moment.at):
        return LifeChange()
    reason = "; ".join(breach.sentence for breach in report.breaches) or "has drifted no longer"
    if action == "stop":
        stopped = moment.event(champion.version, "retired", reason, action=action, causes=report.causes)
        return LifeChange((moment.promotion(NOBODY, reason),), (stopped,))
    size_frac = shrink_frac if action == "shrink" else 1.0
    silent = tuple(cause for cause in causes if action == known and not report.tells(cause))
    changed = moment.event(champion.version, "champion", reason, size_frac=size_frac, action=action, causes=(*report.causes, *silent))
    return LifeChange(events=(changed,))


def holds(life: ModelLife, report: DriftReport, at: datetime) -> str:
    """Why the champion's action stays though ``report`` asks for a milder one or none; empty where it does not."""
    champion = life.champion(at)
    before = _last_drift(life, champion, at) if champion is not None else None
    if before is None or (report.action is not None and SEVERITY.index(report.action) >= SEVERITY.index(before.action)):
        return ""
    silent = [cause for cause in before.causes if not report.tells(cause)]
    return f"{before.action} since {before.at:%Y-%m-%d} stays: {', '.join(silent)} cannot be told" if silent else ""


def _last_drift(life: ModelLife, champion: Promotion, at: datetime) -> ModelEvent | None:
    """The event by which the champion has drifted; None where it has not, or no longer."""
    last = life.last_event(champion.version, at)
    return last if last is not None and last.stage == "champion" and last.action in SEVERITY else None


def roll_back(life: ModelLife, version: str, reason: str, moment: Moment) -> LifeChange:
    """A former champion takes its place again, and the one that followed it is retired."""
    champion = life.champion(moment.at)
    events = [moment.event(version, "champion", reason)]
    if champion is not None and champion.version != version:
        events.append(moment.event(champion.version, "retired", reason))
    return LifeChange((moment.promotion(version, reason),), tuple(events))


def withdraw(life: ModelLife, reason: str, moment: Moment) -> LifeChange:
    """Nobody is champion any more; nothing where nobody was."""
    champion = life.champion(moment.at)
    if champion is None:
        return LifeChange()
    return LifeChange((moment.promotion(NOBODY, reason),), (moment.event(champion.version, "retired", reason),))


def dispensable(life: ModelLife, versions: Sequence[str], keep: int, at: datetime) -> list[str]:
    """Which of ``versions``, oldest first, may be deleted: all but the last ``keep``, what is in use, and the champion before this one."""
    promoted = [entry.version for entry in life.promotions if entry.version != NOBODY and entry.effective_at <= at]
    # The last two champions, those to come, and whoever is champion or in shadow now.
    needed = {*list(dict.fromkeys(reversed(promoted)))[:2], *(entry.version for entry in life.promotions if entry.effective_at >= at)}
    needed |= {version for version in versions if life.stage(version, at) in {"champion", "shadow"}}
    return [version for version in versions[: max(0, len(versions) - keep)] if version not in needed]


def _crown(life: ModelLife, version: str, reason: str, moment: Moment, *, keep: bool) -> LifeChange:
    """Make a version champion. The one before goes on in shadow if ``keep``; no more than one former does."""
    champion = life.champion(moment.at)
    events = [moment.event(version, "champion", reason)]
    replaced = f"replaced by {version}"
    events += [moment.event(old.version, "retired", replaced) for old in life.shadows(moment.at, FORMER) if old.version != version]
    if champion is not None and keep:
        events.append(moment.event(champion.version, "shadow", replaced, role=FORMER))
    elif champion is not None:
        events.append(moment.event(champion.version, "retired", replaced))
    return LifeChange((moment.promotion(version, reason),), tuple(events))


def _first_drift(life: ModelLife, champion: Promotion, at: datetime) -> datetime | None:
    """When this champion first asked for more than an alert."""
    since = (
        event.at
        for event in life.events
        if event.version == champion.version and champion.effective_at <= event.at <= at and event.action not in ("", "alert")
    )
    return min(since, default=None)


def _retire_broken(life: ModelLife, problems: Mapping[str, str], moment: Moment) -> list[ModelEvent]:
    broken = [shadow.version for shadow in life.shadows(moment.at) if shadow.version in problems]
    return [moment.event(version, "retired", problems[version]) for version in broken]


def _promote(life: ModelLife, champion: str, tracks: Mapping[str, Track | None], rules: LifeRules, moment: Moment) -> LifeChange:
    """Promote the challenger that beats the champion most surely, if one does."""
    found = _compared(life, tracks, tracks.get(champion), CHALLENGER, moment.at)
    winners = [(result.t, version) for version, result in found.items() if rules.beats(result)]
    if not winners or tracks.get(champion) is None:
        return LifeChange()
    _, version = max(winners)
    return _crown(life, version, f"beats {champion} in shadow: {found[version].sentence}", moment, keep=True)


def _fill_vacancy(life: ModelLife, tracks: Mapping[str, Track | None], rules: LifeRules, moment: Moment) -> LifeChange:
    """Without a champion that a tick can use, the version in shadow that has proved most surely to be worth something takes its place."""
    found = _compared(life, tracks, None, "", moment.at)
    winners = [(result.t, version) for version, result in found.items() if rules.beats(result)]
    if not winners:
        return LifeChange()
    _, version = max(winners)
    return _crown(life, version, f"there is no champion, and in shadow it was worth {found[version].sentence}", moment, keep=False)


def _roll_back(life: ModelLife, champion: str, tracks: Mapping[str, Track | None], rules: LifeRules, moment: Moment) -> LifeChange:
    """Go back to the former champion where it has been better since."""
    mine = tracks.get(champion)
    for former in life.shadows(moment.at, FORMER):
        theirs = tracks.get(former.version)
        if mine is None or theirs is None:
            continue
        # Only what came after the promotion: before it, the champion was chosen for having been better.
        found = compare(mine.since(former.at), theirs.since(former.at))
        if rules.lost(found):
            return roll_back(life, former.version, f"{champion} is worse than it: {found.sentence}", moment)
    return LifeChange()


def _compared(life: ModelLife, tracks: Mapping[str, Track | None], with_: Track | None, role: str, at: datetime) -> dict[str, Comparison]:
    shadows = [event.version for event in life.shadows(at, role)]
    return {version: compare(mine, with_) for version in shadows if (mine := tracks.get(version)) is not None}


def _retire_late(life: ModelLife, tracks: Mapping[str, Track | None], rules: LifeRules, moment: Moment) -> list[ModelEvent]:
    """Challengers whose deadline is over, and former champions that nobody needs to watch any longer."""
    retired = []
    champion = life.champion(moment.at)
    for shadow in life.shadows(moment.at):
        mine, theirs = tracks.get(shadow.version), tracks.get(champion.version) if champion is not None else None
        if shadow.role == FORMER and moment.at - shadow.at >= rules.watch:
            retired.append(moment.event(shadow.version, "retired", "what replaced it was not worse"))
        elif shadow.role != FORMER and moment.at - shadow.at >= rules.deadline:
            days = rules.deadline / timedelta(days=1)
            told = compare(mine, theirs).sentence if mine is not None else "it never forecast anything"
            retired.append(moment.event(shadow.version, "retired", f"did not beat the champion within {days:g} days: {told}"))
    return retired
