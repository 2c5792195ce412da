from mixjax.fitting.record import Fit as Fit
from mixjax.fitting.record import load_fit as load_fit
from mixjax.fitting.score import Score as Score
from mixjax.fitting.simulate import demo_runs as demo_runs
from mixjax.fitting.simulate import simulate_runs as simulate_runs
