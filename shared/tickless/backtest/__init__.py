"""Runs over history: result files, their audit and comparison, the report. Modules are imported one by one, so that each stays light."""
