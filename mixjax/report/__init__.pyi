from mixjax.drawing.style import save as save
from mixjax.report import export as export
from mixjax.report.export import export_mixture as export_mixture
from mixjax.report.pipeline import Outcome as Outcome
from mixjax.report.pipeline import recovery as recovery
from mixjax.report.pipeline import run_pipeline as run_pipeline
from mixjax.report.pipeline import write_report as write_report
