from mixjax.plan.proposal import NextRuns as NextRuns
from mixjax.plan.proposal import next_runs as next_runs
