from mixjax.trust.choose import choose_law as choose_law
from mixjax.trust.choose import compare as compare
from mixjax.trust.choose import extrapolate as extrapolate
from mixjax.trust.enough import enough_runs as enough_runs
from mixjax.trust.held_out import cross_validate as cross_validate
from mixjax.trust.intervals import best_mixture as best_mixture
from mixjax.trust.intervals import uncertainty as uncertainty
