"""The report page, its figures, the model card; reads the run folder only."""
