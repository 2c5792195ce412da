from mixjax.report.export import export_mixture as export_mixture
