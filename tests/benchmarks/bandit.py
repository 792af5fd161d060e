"""`python -m tests.benchmarks.bandit`: what the models that were routed to missed.

Every pull is what production does: `select_candidates` reads the arms from Postgres,
`routing.choose` draws and blends, an answer is recorded, and `ailydian_reward` moves the arms of
the tenant and of everybody. Beside it, on the same environments, seeds and luck: Thompson sampling
as in the book (tests/oracles/bandit.py) and UCB1.

Two regrets: of quality, what the answers missed beside the model with the best ones; and of the
blend, what they missed by production's own measure, in which a cheap and quick model may beat a
better one. Environments are synthetic: what real models earn is not known here.

Measured with 3,000 pulls and 20 seeds, regret of quality, production beside the textbook: same
price and speed 35.0 and 34.2; the better the dearer 286.8 and 34.2; the better the slower 112.4 and
34.2; the best changes every 50 days 165.9 and 227.3; estimates, one in five rated 121.5 and 34.2;
newcomers 24.9 where others agree, 42.0 where they differ, and 34.2. Preferring what is cheap and
quick is what the blend is for; where it nearly ties (the dearest model wins by 0.005) it is also
slow to learn by its own measure: 20.5, the textbook 6.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import numpy as np

from shared import db
from shared.db import Connection, Role
from shared.ids import MessageId, TenantId
from shared.queries.models import model_routes
from shared.queries.models.model_routes import Reward
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure
from tests.oracles import bandit as oracle
from workers.domain.models import routing
from workers.domain.models.bandit import Arm
from workers.domain.models.routing import RoutingCandidate, RoutingRequest
from workers.steps.model_choice import candidate_of

WORLD = (0.55, 0.60, 0.65, 0.70, 0.80)  # the chance that an answer of each model is a good one
ESTIMATE_WEIGHT = 0.2  # as the scoring of answers weighs its estimates
RATED_EVERY = 5  # of the answers with an estimate one in five gets a rating, a pull later

ADD_MODEL = """
    INSERT INTO "AIModel" ("providerId", "name", "slug", "contextWindow", "costPer1kIn",
                           "costPer1kOut", "capabilities", "latencyEwmaMs")
    SELECT "id", %(slug)s, %(slug)s, 8192, %(usd)s, 0, '{completion}', %(latency)s
    FROM "AIProvider" WHERE "slug" = 'local'
"""
ADD_ANSWERS = """
    INSERT INTO "Message" ("id", "conversationId", "role", "content", "modelId", "intent")
    SELECT g."id", %(conversation)s, 'ASSISTANT', '', m."id", g."intent"
    FROM unnest(%(ids)s::text[], %(models)s::text[], %(intents)s::text[])
         AS g("id", "model", "intent")
    JOIN "AIModel" m ON m."slug" = g."model"
"""


@dataclass(frozen=True)
class Environment:
    """Five models, and how the days go by.

    Attributes:
        chances: That an answer of each model is a good one.
        usd: What 1,000 tokens of each model cost.
        latency_ms: How long each takes.
        a_day: Pulls a day: rewards fade by the day.
        shift: Pulls after which the chances move on by one model.
        estimated: Whether answers get an estimate first, and only some of them a rating.
        before: The chances by which another tenant has pulled `others` times before.
    """

    name: str
    chances: tuple[float, ...] = WORLD
    usd: tuple[str, ...] = ("0", "0", "0", "0", "0")
    latency_ms: tuple[float, ...] = (1_000.0,) * 5
    a_day: int = 1_000
    shift: int | None = None
    estimated: bool = False
    before: tuple[float, ...] = ()
    others: int = 1_000

    def at(self, turn: int) -> "Moment":
        """What is true of its models now."""
        return _moment(self, 0 if self.shift is None else turn // self.shift)


@dataclass(frozen=True)
class Moment:
    """The chance that an answer of each model is a good one, and what the blend says of it."""

    chances: np.ndarray
    worth: np.ndarray


@cache
def _moment(environment: Environment, shifts: int) -> Moment:
    chances = np.roll(environment.chances, shifts)
    models = zip(environment.usd, environment.latency_ms, chances, strict=True)
    return Moment(
        chances,
        np.array(
            [
                routing.score(
                    routing.terms(
                        RoutingCandidate("", cost_in=Decimal(usd), latency_ms=latency),
                        float(chance),
                    )
                )
                for usd, latency, chance in models
            ]
        ),
    )


ENVIRONMENTS = (
    Environment("same price and speed"),
    # The prices of gpt-4.1-nano, gpt-4o-mini, gpt-4.1-mini, gpt-4.1 and gpt-4o, in and out.
    Environment("the better the dearer", usd=("0.0005", "0.00075", "0.002", "0.01", "0.0125")),
    Environment("the better the slower", latency_ms=(500.0, 750.0, 1_000.0, 1_500.0, 3_000.0)),
    Environment("the best changes every 50 days", a_day=20, shift=1_000),
    Environment("estimates, one in five rated", estimated=True),
    Environment("newcomer, others agree", before=WORLD),
    Environment("newcomer, others differ", before=WORLD[::-1]),
)


@dataclass
class Regret:
    """What was missed so far, by quality and by production's blend."""

    quality: float = 0.0
    blend: float = 0.0

    def miss(self, environment: Environment, turn: int, choice: int) -> None:
        """Count a pull."""
        now = environment.at(turn)
        self.quality += float(now.chances.max() - now.chances[choice])
        self.blend += float(now.worth.max() - now.worth[choice])


def luck(pulls: int, seed: int) -> np.ndarray:
    """What decides whether an answer is a good one, the same for all who compete."""
    return np.random.default_rng([seed, 1]).random(pulls)


def production(environment: Environment, pulls: int, seeds: Sequence[int]) -> list[Regret]:
    """The regrets of what runs in production, an intent of its own for each seed.

    Needs this process's pool, on a database that nobody else uses.
    """
    names = _models_of(environment)
    if environment.before:
        past = Environment("past", environment.before, environment.usd, environment.latency_ms)
        Routed(_tenant("others"), past, names, seeds).pull(environment.others)
    routed = Routed(_tenant("acme"), environment, names, seeds)
    routed.pull(pulls)
    return routed.regrets


class Routed:
    """A tenant whose every question is routed, answered and rated."""

    def __init__(
        self,
        tenant_id: TenantId,
        environment: Environment,
        names: Sequence[str],
        seeds: Sequence[int],
    ) -> None:
        self._tenant_id = tenant_id
        self._environment = environment
        self._places = {name: place for place, name in enumerate(names)}
        self._intents = [f"s{seed}" for seed in seeds]
        self._draws = [np.random.default_rng([seed, 2]) for seed in seeds]
        self._seeds = seeds
        self._unrated: list[Reward] = []
        self.regrets = [Regret() for _ in seeds]

    def pull(self, pulls: int) -> None:
        """Ask so many questions of every seed's intent, one after the other."""
        lucks = np.array([luck(pulls, seed) for seed in self._seeds])
        for turn in range(pulls):
            if turn and turn % self._environment.a_day == 0:
                _let_a_day_pass()
            with db.transaction(self._tenant_id, durable=False) as conn:
                self._pull(conn, turn, lucks[:, turn])

    def _pull(self, conn: Connection, turn: int, luck: np.ndarray) -> None:
        request = RoutingRequest(tokens_in=1_000, tokens_out=1_000)
        slugs, rewards = [], []
        ids = [f"{self._tenant_id}-{intent}-{turn}" for intent in self._intents]
        for at, intent in enumerate(self._intents):
            found = model_routes.select_candidates(conn, intent)
            choice = routing.choose(
                [candidate_of(each) for each in found], request, self._draws[at]
            )
            assert choice.slug is not None, "every model fits"
            place = self._places[choice.slug]
            self.regrets[at].miss(self._environment, turn, place)
            slugs.append(choice.slug)
            won = luck[at] < self._environment.at(turn).chances[place]
            rewards.append(Reward(MessageId(ids[at]), float(won), 1.0))
        conn.execute(
            ADD_ANSWERS,
            {
                "conversation": self._tenant_id,
                "ids": ids,
                "models": slugs,
                "intents": self._intents,
            },
        )
        self._reward(conn, turn, rewards)

    def _reward(self, conn: Connection, turn: int, rewards: list[Reward]) -> None:
        if not self._environment.estimated:
            model_routes.reward(conn, rewards)
            return
        # A good answer is estimated at 0.75, another at 0.25; its rating replaces that.
        estimates = [
            Reward(each.message_id, 0.25 + each.value / 2, ESTIMATE_WEIGHT) for each in rewards
        ]
        model_routes.reward(conn, [*estimates, *self._unrated])
        self._unrated = rewards if turn % RATED_EVERY == 0 else []


def textbook(environment: Environment, pulls: int, seed: int) -> Regret:
    """The regrets of Thompson sampling as in the book: every answer rated, nothing fades."""
    rng, luck_of = np.random.default_rng([seed, 2]), luck(pulls, seed)
    arms, regret = [Arm() for _ in environment.chances], Regret()
    for turn in range(pulls):
        choice = oracle.pulled(arms, rng)
        regret.miss(environment, turn, choice)
        won = luck_of[turn] < environment.at(turn).chances[choice]
        arms[choice] = oracle.moved(arms[choice], float(won))
    return regret


def ucb1(environment: Environment, pulls: int, seed: int) -> Regret:
    """The regrets of UCB1, the usual bound."""
    luck_of, regret = luck(pulls, seed), Regret()
    counts, totals = np.zeros(len(environment.chances)), np.zeros(len(environment.chances))
    for turn in range(pulls):
        choice = oracle.bound(counts, totals, turn)
        regret.miss(environment, turn, choice)
        counts[choice] += 1
        totals[choice] += luck_of[turn] < environment.at(turn).chances[choice]
    return regret


def at_random(environment: Environment, pulls: int) -> Regret:
    """What is missed on average by who draws lots."""
    now = environment.at(0)
    quality, blend = (each.max() - each.mean() for each in (now.chances, now.worth))
    return Regret(pulls * float(quality), pulls * float(blend))


def _models_of(environment: Environment) -> list[str]:
    """Put the environment's models in place of all others. Returns their slugs."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "AIModel" SET "enabled" = false')
        row = conn.execute('SELECT count(*) FROM "AIModel"').fetchone()
        assert row is not None, "a count is a row"
        names = [f"m{row[0]:03}-{place}" for place in range(len(environment.chances))]
        for name, usd, latency in zip(names, environment.usd, environment.latency_ms, strict=True):
            conn.execute(ADD_MODEL, {"slug": name, "usd": Decimal(usd), "latency": latency})
    return names


def _tenant(name: str) -> TenantId:
    """A new tenant with a person and a conversation."""
    with db.transaction(None, role=Role.OWNER) as conn:
        row = conn.execute('SELECT count(*) FROM "Tenant"').fetchone()
        assert row is not None, "a count is a row"
        values = {"id": f"{name}-{row[0]}"}
        for statement in (
            'INSERT INTO "Tenant" ("id", "name", "slug") VALUES (%(id)s, %(id)s, %(id)s)',
            """INSERT INTO "User" ("id", "email", "passwordHash", "tenantId")
               VALUES (%(id)s, %(id)s, '', %(id)s)""",
            'INSERT INTO "Conversation" ("id", "userId") VALUES (%(id)s, %(id)s)',
        ):
            conn.execute(statement, values)
    return TenantId(values["id"])


def _let_a_day_pass() -> None:
    """Age what was learnt by a day; rewards that are older have got their last word."""
    with db.transaction(None, role=Role.OWNER, durable=False) as conn:
        for table, column in (("TenantArm", "updatedAt"), ("BanditArm", "updatedAt")):
            conn.execute(f'UPDATE "{table}" SET "{column}" = "{column}" - interval \'1 day\'')
        conn.execute(
            """UPDATE "ArmReward" SET "rewardedAt" = "rewardedAt" - interval '1 day'
               WHERE "rewardedAt" > now() - interval '12 hours'"""
        )


def _figures(environment: Environment, pulls: int, seeds: Sequence[int]) -> list[Figure]:
    """Measure and print one environment."""
    runs = {
        "production": production(environment, pulls, seeds),
        "textbook": [textbook(environment, pulls, seed) for seed in seeds],
        "UCB1": [ucb1(environment, pulls, seed) for seed in seeds],
        "at random": [at_random(environment, pulls)],
    }
    figures = []
    for who, regrets in runs.items():
        for kind in ("quality", "blend"):
            values = np.array([getattr(each, kind) for each in regrets])
            error = np.std(values) / np.sqrt(len(values))
            name = f"{environment.name}: {kind}, {who}"
            figures.append(Figure(name, float(values.mean()), f"+- {error:.1f}"))
    mine, book = (
        np.mean([each.quality for each in runs[who]]) for who in ("production", "textbook")
    )
    # Where nothing but quality tells models apart, routing must learn as the book's bandit does.
    is_plain = environment is ENVIRONMENTS[0]
    name = f"{environment.name}: quality, production / textbook"
    bar = 1.1 if is_plain else None
    figures.append(Figure(name, float(mine / book), "", bar, at_most=True, gates=is_plain))
    return figures


def main() -> None:
    """Measure every environment, or those that are named."""
    parser = harness.options(__doc__)
    parser.add_argument("--pulls", type=int, default=3_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", help="an environment whose name holds this")
    chosen = parser.parse_args()
    figures = []
    with harness.world(tenants=0):
        for environment in ENVIRONMENTS:
            if (chosen.only or "") in environment.name:
                figures += _figures(environment, chosen.pulls, range(chosen.seeds))
    title = f"bandit: regret over {chosen.pulls:,} pulls, {chosen.seeds} seeds"
    harness.report(title, figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
