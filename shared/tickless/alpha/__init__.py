"""Forecasters: the model artifact, the champion a tick may use, and the scores made of forecasts."""
