from mixjax.data.design import design_mixtures as design_mixtures
from mixjax.data.runs import Runs as Runs
from mixjax.data.runs import read_runs as read_runs
from mixjax.data.splits import resample as resample
from mixjax.data.table import read_table as read_table
