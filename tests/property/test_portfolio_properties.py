"""What holds for every target, whatever the candidates."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tickless.portfolio.construction import Candidate, construct
from tickless.risk.limits import limit
from tickless.settings import PortfolioSection, RegimeCounts, RegimeFracs, RiskSection

FRACS = st.floats(0.0, 1.0)
SCORES = st.one_of(st.floats(-0.5, 0.5), st.sampled_from([0.0, 0.01, 0.02, 1e-12, 1e300]))


@st.composite
def candidate_lists(draw):
    names = draw(st.lists(st.text("ABCDEFGH", min_size=1, max_size=3), unique=True, max_size=14))
    return [Candidate(f"{name}/USDT", draw(SCORES), draw(st.floats(0.0, 2.0)), draw(st.integers(1, 3))) for name in names]


@st.composite
def portfolios(draw):
    k, buffer = draw(st.integers(0, 10)), draw(FRACS)
    return PortfolioSection(
        top_k=RegimeCounts(trend=k, chop=k, down=k),
        cash_buffer_frac=RegimeFracs(trend=buffer, chop=buffer, down=buffer),
        tier1_cap_frac=draw(FRACS),
        tier2_cap_frac=draw(FRACS),
        tier3_cap_frac=draw(FRACS),
        tier3_sleeve_frac=draw(FRACS),
        cut_off_goes_to=draw(st.sampled_from(["cash", "candidates"])),
    )


@given(candidate_lists(), portfolios())
def test_targets_respect_every_limit(candidates, settings):
    got = construct(candidates, "chop", settings)
    tiers = {c.pair: c.tier for c in candidates}
    assert all(weight > 0.0 for weight in got.weights.values())
    assert len(got.weights) <= settings.top_k.chop
    assert sum(got.weights.values()) <= 1.0 - settings.cash_buffer_frac.chop + 1e-9
    assert all(weight <= settings.tier_cap_frac(tiers[pair]) + 1e-12 for pair, weight in got.weights.items())
    assert sum(weight for pair, weight in got.weights.items() if tiers[pair] == 3) <= settings.tier3_sleeve_frac + 1e-9


@given(candidate_lists(), portfolios())
def test_the_chosen_rank_above_the_rest(candidates, settings):
    got = construct(candidates, "chop", settings)
    score = {c.pair: c.score for c in candidates}
    ranking = [*(c.pair for c in sorted(candidates, key=lambda c: (-c.score, c.pair)))]
    assert [pair for pair in ranking if pair in got.weights] == list(got.weights)
    assert all(score[a] >= score[b] for a, b in pairwise([*got.weights, *got.beyond_top_k]))


@given(st.data(), candidate_lists(), portfolios())
def test_the_order_of_the_candidates_does_not_matter(data, candidates, settings):
    shuffled = data.draw(st.permutations(candidates))
    one, other = construct(candidates, "down", settings), construct(shuffled, "down", settings)
    assert one == other
    assert list(one.weights) == list(other.weights)


@given(candidate_lists(), portfolios())
def test_giving_the_cut_off_away_never_lowers_the_total(candidates, settings):
    kept = construct(candidates, "chop", settings.model_copy(update={"cut_off_goes_to": "cash"}))
    given_away = construct(candidates, "chop", settings.model_copy(update={"cut_off_goes_to": "candidates"}))
    assert sum(given_away.weights.values()) >= sum(kept.weights.values()) - 1e-9


PAIRS = st.sampled_from(["A/USDT", "B/USDT", "C/USDT", "D/USDT"])
WEIGHTS = st.dictionaries(PAIRS, st.floats(0.0, 0.3))


@given(WEIGHTS, WEIGHTS, st.floats(-0.9, 0.0), st.booleans(), st.dictionaries(PAIRS, st.just("2024-06-01T00:00:00Z")))
def test_limits_only_reduce(targets, held, drawdown, halted, blocked):
    got = limit(targets, held, drawdown, halted=halted, blocked=blocked, settings=RiskSection())
    for pair, weight in got.values.items():
        assert 0.0 < weight <= targets[pair]
        if halted or pair in blocked:
            assert weight <= held.get(pair, 0.0)
    assert set(got.held_back) <= set(targets)
