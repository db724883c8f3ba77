"""Plots as plain data: what is in them is decided here, how they look in static/charts.js."""
